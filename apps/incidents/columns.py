"""Holds columns against a rule: what monitoring tells of each in, a reading of each out. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from django.template.defaultfilters import pluralize

from apps.core.templatetags.formats import format_percent
from apps.incidents.judging import smallest_share, too_few, unknown, wilson
from apps.incidents.lifecycle import Reading, Severity, Verdict
from apps.registry.monitors_policy import Rule

SHARE_OF = {
    "missing": ("missing",),
    "non_finite": ("non_finite",),
    "unseen": ("unseen",),
    "wrong_type": ("wrong",),
    "absent_column": ("absent",),
    "out_of_range": ("below", "above"),
}
OF_VALUES = ("unseen", "out_of_range")  # shares of the values, the others of all rows
NEVER = ("wrong_type", "absent_column")  # what few rows prove where the reference never had it
LEAST_ROWS = 500  # below which monitoring judges neither a window nor a reference
REFERENCES = {"baseline": "the reference", "previous": "the window before"}
SHARE_WORDS = {
    "missing": "missing",
    "non_finite": "not finite",
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
    @property
    def smallest(self) -> float | None: ...


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
    def values(self) -> int: ...
    @property
    def reference_rows(self) -> int: ...
    @property
    def reference_values(self) -> int: ...
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


def _distance(rule: Rule, column: Column, until: datetime) -> Reading | None:
    if column.state in ("redacted", "incomparable"):
        return None
    if column.state == "not_enough_data" or column.js is None or column.rows < rule.enough:
        return _short(rule, column, until, of_values=True)
    is_wrong = column.state in ("drifted", "critical")
    if rule.at_least is not None:
        is_wrong = is_wrong and column.js >= rule.at_least
    severity = Severity.CRITICAL if column.state == "critical" else Severity(rule.severity)
    limit = max(column.threshold, rule.at_least or 0.0)
    smallest = None if column.smallest is None else max(column.smallest, rule.at_least or 0.0)
    return Reading(
        until,
        Verdict.WRONG if is_wrong else Verdict.RIGHT,
        f"{column.label}: distance {column.js:.3f} over {column.rows:,} "
        f"row{pluralize(column.rows)}, limit {limit:.3f}",
        severity,
        column.js,
        smallest,
        "" if smallest is None else f"a distance of {smallest:.3f}",
        f"Drift of {column.label}",
        {"js": column.js, "psi": column.psi, "ks": column.ks, "p": column.p, "limit": limit,
         "rows": column.rows, "column": column.name, "importance": column.importance},
        column.rank or 0.0,
    )  # fmt: skip


def _column_share(rule: Rule, column: Column, until: datetime) -> Reading | None:
    if column.state == "redacted":
        return None
    parts: list[Share] = [getattr(column, name) for name in SHARE_OF[rule.metric]]
    # Without a window's share and judged all the same: a column that has no such signal.
    known = [part for part in parts if part.window is not None or part.state == "not_enough_data"]
    if not known:
        return None
    is_of_values = rule.metric in OF_VALUES
    of = column.values if is_of_values else column.rows
    is_few = any(part.window is None for part in known) or column.rows < rule.enough
    if rule.at_least is not None:
        is_few = is_few or of < rule.enough
    elif any(part.state == "not_enough_data" for part in known):
        is_few = True  # neither right nor wrong, however many rows the window has
    if is_few:
        return _short(rule, column, until, of_values=is_of_values)
    value = sum(part.window or 0.0 for part in known)
    usual = sum(part.reference or 0.0 for part in known)
    limit = usual if rule.at_least is None else rule.at_least
    is_critical = any(part.state == "critical" for part in known)
    smallest: float | None
    if rule.at_least is not None:
        is_wrong = wilson(round(value * of), of)[0] > rule.at_least
        smallest = smallest_share(of, rule.at_least)
    else:
        is_wrong = any(part.state in ("drifted", "critical") for part in known)
        smallest = _smallest(known, usual)
    words = SHARE_WORDS[rule.metric]
    has_reference = any(part.reference is not None for part in known)
    before = f", {format_percent(usual)} in {REFERENCES[rule.against]}" if has_reference else ""
    weight = 1.0 if column.importance is None else column.importance
    return Reading(
        until,
        Verdict.WRONG if is_wrong else Verdict.RIGHT,
        f"{column.label}: {format_percent(value)} {words} over {column.rows:,} "
        f"row{pluralize(column.rows)}{before}",
        Severity.CRITICAL if is_critical else Severity(rule.severity),
        value,
        smallest,
        "" if smallest is None else f"{format_percent(smallest)} {words}",
        f"{column.label} {format_percent(value)} {words}",
        {"rows": column.rows, "reference": usual, "limit": limit, "column": column.name},
        value * weight,
    )


def _smallest(parts: Sequence[Share], usual: float) -> float | None:
    """The share that is found wherever it lies: below the range, and above it as well."""
    found = [
        part.smallest + usual - (part.reference or 0.0)
        for part in parts
        if part.smallest is not None
    ]
    return max(found) if len(found) == len(parts) else None


def _short(rule: Rule, column: Column, until: datetime, *, of_values: bool) -> Reading:
    """It says what is too few to judge by: the window's rows or values, or the reference's."""
    own_limit = rule.metric != "drift" and rule.at_least is not None
    needs = max(rule.enough, 0 if own_limit or rule.metric in NEVER else LEAST_ROWS)
    if column.rows < needs:
        return too_few(rule, column.rows, "rows", until, needs=needs)
    against = REFERENCES[rule.against]
    before = column.reference_rows
    if before < LEAST_ROWS and not own_limit:
        return unknown(
            f"Nothing to compare with: {against} has {before:,} row{pluralize(before)},"
            f" {LEAST_ROWS} needed",
            until,
        )
    if of_values and column.values < needs:
        return unknown(
            f"Not enough data: {column.label} has {column.values:,} value"
            f"{pluralize(column.values)} in {column.rows:,} rows, it needs {needs:,}",
            until,
        )
    return unknown(
        f"Nothing to compare with: {column.label} has {column.reference_values:,} value"
        f"{pluralize(column.reference_values)} in {against}, {LEAST_ROWS} needed",
        until,
    )


def whole(readings: Sequence[tuple[str, Reading]], until: datetime, *, none: str) -> Reading:
    """It sums the columns up, for the monitor's own line: it fires nothing itself.

    Without any column it could be read, and no column of it can be wrong: `evidence` says so.
    """
    known = [(name, one) for name, one in readings if one.verdict is not Verdict.UNKNOWN]
    if not readings:
        return replace(unknown(none, until), evidence={"columns": 0})
    if not known:
        return readings[0][1]
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
