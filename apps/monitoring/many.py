"""Takes many captured lines apart at once, where they are as a model server writes them. Pure.

What stands around the bodies is parsed as one list for all lines, and the bodies by the patterns
that were learnt. Whatever is written in another way is left to be read line by line, which means
the same: nothing here decides what a line says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import add, itemgetter
from typing import Any

import orjson

from apps.monitoring import lines
from apps.monitoring.patterns import LARGEST_BYTES, PROTOCOLS, Pattern, Patterns, without_id
from apps.monitoring.shapes import Shape

FEWEST = 8  # lines for which it pays
# After lines of which too few could be read so many times as many are read one by one.
PAUSE = 8
_NAMES = ("id", "ts", "status", "us", "format", "caller", "shadow", "error")
_MEMBERS = itemgetter(*_NAMES)
_TYPES = ({str}, {int}, {int}, {int}, {str}, {str}, {bool}, {str})


@dataclass(slots=True)
class Heads:
    """What stands in lines beside their bodies: a place a line in each list."""

    member: dict[str, tuple[Any, ...]]  # by its name: each of the type that a server writes
    share: Sequence[float]
    request: Sequence[bytes]
    response: Sequence[bytes]


@dataclass(slots=True)
class Group:
    """Requests of one row each whose bodies are read together."""

    places: list[int]  # of the requests, in their order
    asked: Shape
    answered: Shape


@dataclass(slots=True)
class _Bodies:
    """What may be of a pattern, by the place of the line."""

    request: Mapping[int, bytes]
    response: Mapping[int, bytes]


def heads(given: Sequence[bytes]) -> Heads | None:
    """It reads what stands beside the bodies; None when a line is not as a server writes it."""
    cuts = [lines.parts(line) for line in given]
    if None in cuts:
        return None
    around, requests, responses = zip(*cuts, strict=True)
    joined = b",\n".join(around)
    # Each has the bracket that it begins with and no other: none can end what another begins.
    if joined.count(b"{") != len(given) or b"[" in joined:
        return None
    if not joined.startswith(b"{") or joined.count(b",\n{") != len(given) - 1:
        return None
    try:
        records = orjson.loads(b"[" + joined + b"]")
        columns = list(zip(*map(_MEMBERS, records), strict=True))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    shares = _shares(records)
    kinds = tuple(set(map(type, column)) for column in columns)
    if len(records) != len(given) or shares is None or kinds != _TYPES:
        return None
    members = dict(zip(_NAMES, columns, strict=True))
    return Heads(members, shares, requests, responses)


def _shares(records: list[dict[str, Any]]) -> list[float] | None:
    """It gives the shares of records that have nothing but their members; else None."""
    lengths = set(map(len, records))
    if lengths == {len(_NAMES)}:
        return [1.0] * len(records)
    if not lengths <= {len(_NAMES), len(_NAMES) + 1}:
        return None
    shares = [record.get("share") for record in records if len(record) > len(_NAMES)]
    if not set(map(type, shares)) <= {int, float}:
        return None
    return [float(record.get("share", 1.0)) for record in records]


def groups(heads: Heads, patterns: Patterns) -> list[Group]:
    """It reads bodies of patterns, of requests that were answered; long ones are not worth it."""
    found: list[Group] = []
    sizes = map(add, map(len, heads.request), map(len, heads.response))
    known = list(zip(heads.member["format"], heads.member["status"], sizes, strict=True))
    for protocol in PROTOCOLS:
        left = [
            place
            for place, (given, status, size) in enumerate(known)
            if given == protocol and status < 400 and size <= LARGEST_BYTES
        ]
        pairs = patterns.pairs(protocol) if left else []
        if not pairs:
            continue
        bodies = _Bodies(*({place: without_id(protocol, side[place]) for place in left}
                           for side in (heads.request, heads.response)))  # fmt: skip
        for asked, answered in pairs:
            group = _group(bodies, left, asked, answered)
            if group is not None:
                found.append(group)
                left = sorted(set(left).difference(group.places))
    return found


def _group(bodies: _Bodies, left: list[int], asked: Pattern, answered: Pattern) -> Group | None:
    requests, responses = bodies.request, bodies.response
    first, last, begin, end = asked.start, asked.end, answered.start, answered.end
    places = [
        place
        for place in left
        if requests[place].startswith(first)
        and responses[place].startswith(begin)
        and requests[place].endswith(last)
        and responses[place].endswith(end)
    ]
    if len(places) < FEWEST:
        return None
    of_request = asked.read_many([requests[place] for place in places])
    if of_request is None:
        return None
    good, request = of_request
    places = list(compress(places, good))
    if not places:
        return None
    of_response = answered.read_many([responses[place] for place in places])
    if of_response is None:
        return None
    good, response = of_response
    if not all(good):
        places = list(compress(places, good))
        values = [list(compress(column, good)) for column in request.values]
        request = Shape(request.key, len(places), values)
    return Group(places, request, response) if places else None
