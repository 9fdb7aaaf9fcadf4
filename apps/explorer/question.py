"""What a search asks the log, checked and as JSON. Knows no database."""

import math
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.core.errors import Refused
from apps.explorer.lifecycle import (
    LONGEST,
    MOST_CHARACTERS,
    MOST_CONDITIONS,
    MOST_ROWS,
    MOST_VALUES,
)

NUMBER, TEXT, BOOL = "number", "text", "bool"
# Those that every row has; the other columns are the inputs and outputs of the endpoint.
ALWAYS = {"caller": TEXT, "status": NUMBER, "latency_us": NUMBER}
SHADOWS = ("no", "yes", "both")
ORDERS = ("newest", "sample")
OPS = ("eq", "ne", "lt", "le", "gt", "ge", "between", "in", "is_null", "not_null")
WITHOUT_VALUE = ("is_null", "not_null")
STATUS = re.compile(r"[1-5]xx|\d{1,3}", re.ASCII)
WINDOW = timedelta(hours=24)  # what is looked through when nobody says since when
_BRIEF = reprlib.Repr()
# What was given may be nested deeper than a plain repr() goes.
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother, _BRIEF.maxlong = 3, 97, 97, 97
_WORDS = {NUMBER: "a finite number", TEXT: "a text", BOOL: "true or false"}


class SearchRefused(Refused):
    code = "search_refused"


@dataclass(frozen=True)
class Condition:
    """One column compared with a value; a list of two for `between`, a list for `in`."""

    column: str
    op: str
    value: Any = None


@dataclass(frozen=True)
class Question:
    """What rows of an endpoint's log are looked for. Everything that is given must hold."""

    since: datetime
    until: datetime
    revisions: tuple[int, ...] = ()  # their numbers; (): all
    shadow: str = "no"
    status: str = ""  # "5xx" or "503"
    latency_from_ms: float | None = None
    latency_to_ms: float | None = None
    request_id: str = ""
    caller: str = ""
    error: str = ""  # is in it
    conditions: tuple[Condition, ...] = ()
    order: str = "newest"  # or "sample": such as are spread evenly over all that fit
    limit: int = 1_000

    def as_json(self) -> dict[str, Any]:
        times = {"since": self.since.isoformat(), "until": self.until.isoformat()}
        return asdict(self) | times | {"revisions": list(self.revisions)}


def since_or_window(since: datetime | None, until: datetime) -> datetime:
    """It gives the beginning that was asked for, or one a day before the end."""
    if since is not None:
        return since
    try:
        return until - WINDOW
    except OverflowError:  # on the calendar's first day there is no day before
        return until


def from_json(kept: Mapping[str, Any]) -> Question:
    """It reads what `as_json` wrote."""
    named = {field.name for field in fields(Question)}
    given = {name: value for name, value in kept.items() if name in named}
    for name in ("since", "until"):
        given[name] = datetime.fromisoformat(given[name]).astimezone(UTC)
    given["revisions"] = tuple(given["revisions"])
    given["conditions"] = tuple(Condition(**one) for one in given["conditions"])
    return Question(**given)


def check(question: Question, known: Mapping[str, str], revisions: Iterable[int]) -> None:
    """It looks whether the question can be asked of a log with these columns and revisions.

    `known`: the kind of each input and output that is in it, by the column's name.
    Raises: SearchRefused, in words.
    """
    _check_time(question)
    _check_range(question)
    missing = sorted(set(question.revisions) - set(revisions))
    if missing:
        raise SearchRefused(f"This endpoint has no revision {missing[0]}", "revision_unknown")
    if len(question.conditions) > MOST_CONDITIONS:
        raise SearchRefused(f"At most {MOST_CONDITIONS} conditions at once", "too_many_conditions")
    for condition in question.conditions:
        _check_condition(condition, {**known, **ALWAYS})


def _check_time(question: Question) -> None:
    if not question.since < question.until:
        raise SearchRefused("The beginning must lie before the end", "time_wrong")
    if question.until - question.since > LONGEST:
        raise SearchRefused(f"At most {LONGEST.days} days at once", "time_too_long")


def _check_range(question: Question) -> None:
    if question.shadow not in SHADOWS or question.order not in ORDERS:
        raise SearchRefused("shadow is no, yes or both; order is newest or sample", "value_wrong")
    if not 1 <= question.limit <= MOST_ROWS:
        raise SearchRefused(f"Between 1 and {MOST_ROWS:,} rows can be asked for", "limit_wrong")
    if question.status and not STATUS.fullmatch(question.status):
        raise SearchRefused("A status is a class as 5xx or a number as 503", "status_wrong")
    low, high = question.latency_from_ms, question.latency_to_ms
    for bound in (low, high):
        if bound is not None and not (math.isfinite(bound) and bound >= 0):
            raise SearchRefused("A latency is a number of milliseconds, 0 or more", "latency_wrong")
    if low is not None and high is not None and low > high:
        raise SearchRefused("The least latency is above the greatest", "latency_wrong")


def _check_condition(condition: Condition, known: Mapping[str, str]) -> None:
    column, op, value = condition.column, condition.op, condition.value
    kind = known.get(column)
    if kind is None:
        raise SearchRefused(
            f"The log has no column {_short(column)} in that time; it has {_some(known)}",
            "column_unknown",
        )
    if op not in OPS:
        raise SearchRefused(f"There is no {_short(op)}; there is {', '.join(OPS)}", "op_unknown")
    if op in WITHOUT_VALUE:
        return
    if kind == BOOL and op not in ("eq", "ne", "in"):
        raise SearchRefused(f"{column} is true or false: compare it by eq, ne or in", "op_wrong")
    for one in _values(condition):
        # Text is what a column without a signature is as soon as one request held text there.
        if not _is_of(kind, one) and not (kind == TEXT and _is_of(NUMBER, one)):
            raise SearchRefused(
                f"{column} is compared with {_WORDS[kind]}, not with {_short(value)}",
                "value_wrong",
            )


def _values(condition: Condition) -> Sequence[Any]:
    value = condition.value
    if condition.op not in ("in", "between"):
        return [value]
    wanted = "two values" if condition.op == "between" else f"1 to {MOST_VALUES} values"
    fits = isinstance(value, list) and (
        len(value) == 2 if condition.op == "between" else 1 <= len(value) <= MOST_VALUES
    )
    if not fits:
        raise SearchRefused(f"{condition.op} takes a list of {wanted}", "value_wrong")
    return list(value)


def _is_of(kind: str, value: Any) -> bool:
    if kind == BOOL:
        return isinstance(value, bool)
    if kind == NUMBER:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return abs(value) < 1e300 if isinstance(value, int) else math.isfinite(value)
    return isinstance(value, str) and len(value) <= MOST_CHARACTERS and _can_be_kept(value)


def _can_be_kept(text: str) -> bool:
    """The database holds neither NUL nor half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _some(known: Mapping[str, str]) -> str:
    names = [_short(name) for name in known]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more


def _short(value: object) -> str:
    text = _BRIEF.repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
