"""Holds columns against a rule: what monitoring tells of each in, a reading of each out. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from django.template.defaultfilters import pluralize

from apps.core.templatetags.formats import format_percent
from apps.incidents.judging import smallest_share, too_few, unknown, wilson
from apps.incidents.lifecycle import Reading, Severity, Verdict
from apps.registry.monitors_policy import Rule

SHARE_OF = {
    "missing": ("missing",),
    "unseen": ("unseen",),
    "wrong_type": ("wrong",),
    "absent_column": ("absent",),
    "out_of_range": ("below", "above"),
}
# How far from the reference's share monitoring takes a column's as changed, whatever chance says.
FLOOR, FLOORS = 0.02, {"wrong_type": 0.001, "absent_column": 0.001}
SHARE_WORDS = {
    "missing": "missing",
    "unseen": "never seen in the reference",
    "wrong_type": "of the wrong type",
    "absent_column": "absent",
    "out_of_range": "outside the reference's range",
}


class Share(Protocol):
    """Of a column's rows, as monitoring tells it."""

    @property
    def window(self) -> float | None: ...
    @property
    def reference(self) -> float | None: ...
    @property
    def state(self) -> str: ...


class Column(Protocol):
    """A column against its reference, as monitoring tells it."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def js(self) -> float | None: ...
    @property
    def psi(self) -> float | None: ...
    @property
    def ks(self) -> float | None: ...
    @property
    def p(self) -> float | None: ...
    @property
    def threshold(self) -> float: ...
    @property
    def rows(self) -> int: ...
    @property
    def importance(self) -> float | None: ...
    @property
    def rank(self) -> float | None: ...
    @property
    def smallest(self) -> float | None: ...


def readings(rule: Rule, found: Sequence[Column], until: datetime) -> list[tuple[str, Reading]]:
    """It gives a reading for each column that the rule looks at."""
    wanted = set(rule.columns)
    judge = _distance if rule.metric == "drift" else _column_share
    told = []
    for column in found:
        if wanted and not wanted & {column.name, column.label}:
            continue
        reading = judge(rule, column, until)
        if reading is not None:
            told.append((column.label, reading))
    return told


def _distance(rule: Rule, column: Column, until: datetime) -> Reading:
    if column.state == "not_enough_data" or column.js is None or column.rows < rule.enough:
        return too_few(rule, column.rows, "rows", until)
    is_wrong = column.state in ("drifted", "critical")
    if rule.at_least is not None:
        is_wrong = is_wrong and column.js >= rule.at_least
    severity = Severity.CRITICAL if column.state == "critical" else Severity(rule.severity)
    limit = max(column.threshold, rule.at_least or 0.0)
    return Reading(
        until,
        Verdict.WRONG if is_wrong else Verdict.RIGHT,
        f"{column.label}: distance {column.js:.3f} over {column.rows:,} "
        f"row{pluralize(column.rows)}, limit {limit:.3f}",
        severity,
        column.js,
        column.smallest,
        "" if column.smallest is None else f"a distance of {column.smallest:.3f}",
        f"Drift of {column.label}",
        {"js": column.js, "psi": column.psi, "ks": column.ks, "p": column.p, "limit": limit,
         "rows": column.rows, "column": column.name, "importance": column.importance},
        column.rank or 0.0,
    )  # fmt: skip


def _column_share(rule: Rule, column: Column, until: datetime) -> Reading | None:
    if column.rows < rule.enough:
        return too_few(rule, column.rows, "rows", until)
    parts: list[Share] = [getattr(column, name) for name in SHARE_OF[rule.metric]]
    known = [part for part in parts if part is not None and part.window is not None]
    if not known:
        return None
    value = sum(part.window or 0.0 for part in known)
    usual = sum(part.reference or 0.0 for part in known)
    limit = usual if rule.at_least is None else rule.at_least
    if rule.at_least is not None:
        is_wrong = wilson(round(value * column.rows), column.rows)[0] > rule.at_least
    else:
        is_wrong = any(part.state in ("drifted", "critical") for part in known)
    is_critical = any(part.state == "critical" for part in known)
    smallest = smallest_share(column.rows, limit)
    if rule.at_least is None:
        smallest = max(smallest, usual + FLOORS.get(rule.metric, FLOOR))
    words = SHARE_WORDS[rule.metric]
    return Reading(
        until,
        Verdict.WRONG if is_wrong else Verdict.RIGHT,
        f"{column.label}: {format_percent(value)} {words} over {column.rows:,} "
        f"row{pluralize(column.rows)}, {format_percent(usual)} in the reference",
        Severity.CRITICAL if is_critical else Severity(rule.severity),
        value,
        smallest,
        f"{format_percent(smallest)} {words}",
        f"{column.label} {format_percent(value)} {words}",
        {"rows": column.rows, "reference": usual, "limit": limit, "column": column.name},
        value * (column.importance or 1.0),
    )


def whole(readings: Sequence[tuple[str, Reading]], until: datetime, *, none: str) -> Reading:
    """It sums the columns up, for the monitor's own line: it fires nothing itself."""
    known = [(name, one) for name, one in readings if one.verdict is not Verdict.UNKNOWN]
    if not known:
        return readings[0][1] if readings else unknown(none, until)
    wrong = [name for name, one in known if one.verdict is Verdict.WRONG]
    worst = max(known, key=lambda pair: pair[1].value or 0.0)[1]
    blind = max(known, key=lambda pair: pair[1].smallest or 0.0)[1]
    words = (
        f"{len(wrong)} of {len(known)} column{pluralize(len(known))}: {', '.join(wrong[:3])}"
        if wrong
        else f"{len(known)} column{pluralize(len(known), ' is,s are')} right;"
        f" the most is {worst.words}"
    )
    return Reading(
        until,
        Verdict.WRONG if wrong else Verdict.RIGHT,
        words,
        value=worst.value,
        smallest=blind.smallest,
        smallest_words=blind.smallest_words,
    )
