"""Takes a captured line apart, so that the bodies in it need not be written anew. Pure.

A model server splices the bodies into its line as they came. Cut at the names of its members,
each part is parsed alone: where all of them are JSON, so is the line, and the cuts were right,
since a body that is cut in two leaves a bracket or a quotation mark open. Any other line is parsed
as a whole.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from apps.monitoring import bodies
from apps.monitoring.patterns import Patterns
from apps.monitoring.shapes import Shape

_REQUEST, _RESPONSE, _ERROR = b',"request":', b',"response":', b',"error":'
_BLANKS = b" \t\r\n"  # those of JSON
_BODIES = frozenset({"request", "response"})


@dataclass(slots=True)
class Line:
    """What stands in a line: a dict where it is a record.

    Beside the parsed bodies, or their Shapes, stands how they were written; None: not known.
    """

    record: Any
    request: bytes | None = None
    response: bytes | None = None


def parsed(line: bytes) -> Line:
    """It parses a line as a whole. Raises: orjson.JSONDecodeError."""
    return Line(orjson.loads(line))


def parts(line: bytes) -> tuple[bytes, bytes, bytes] | None:
    """It gives what stands around the bodies, what was asked and what was answered, with blanks.

    Where each of them is JSON, and the first an object without another value that has parts, the
    line says what they say. None as in `cut`.
    """
    head, _, rest = line.partition(_REQUEST)
    rest, error, tail = rest.rpartition(_ERROR)
    request, found, response = rest.rpartition(_RESPONSE)
    return (head + error + tail, request, response) if found else None


def cut(line: bytes, patterns: Patterns | None) -> Line | None:
    """It reads the parts of a line; None when it is not written as a model server writes it."""
    first = line.find(_REQUEST)
    third = line.rfind(_ERROR)
    second = line.rfind(_RESPONSE, 0, third) if 0 < first < third else -1
    if second < first + len(_REQUEST):
        return None
    request = line[first + len(_REQUEST) : second].strip(_BLANKS)
    response = line[second + len(_RESPONSE) : third].strip(_BLANKS)
    try:
        record = orjson.loads(line[:first] + b"}")
        last = orjson.loads(b"{" + line[third + 1 :])
        if type(record) is not dict or not record or not _BODIES.isdisjoint(last):
            return None
        record |= last
        given = record.get("format")
        protocol = given if isinstance(given, str) else ""
        asked = patterns and patterns.asked(protocol, request)
        if asked is None:
            asked = orjson.loads(request)
            request = bodies.as_it_came(request, asked)
        answered = None
        # Of a request that is no rows nobody reads outputs.
        if patterns is not None and type(asked) is Shape:
            answered = patterns.answered(protocol, response)
        if answered is None:
            answered = orjson.loads(response)
            response = bodies.as_it_came(response, answered)
    except orjson.JSONDecodeError:
        return None
    record["request"], record["response"] = asked, answered
    return Line(record, request, response)
