"""The first line of an endpoint's monitoring page: what an on-call person must know. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.template.defaultfilters import pluralize

from apps.core.templatetags.formats import format_duration, format_num, format_percent

if TYPE_CHECKING:
    from apps.monitoring.drift import ColumnDrift

MOST_NAMED = 4
LEAST_ROWS = 500
QUIET = ("quiet", "not_enough_data")
JUDGED = ("quiet", "drifted", "critical")
SIGNALS = {
    "missing": "missing",
    "absent": "not sent",
    "wrong": "of a wrong type",
    "unseen": "never seen before",
    "non_finite": "not finite",
    "below": "below the reference's range",
    "above": "above the reference's range",
}


@dataclass(frozen=True)
class Headline:
    state: str  # of core's states
    text: str
    note: str = ""


def of_columns(
    columns: "Sequence[ColumnDrift]", rows: int, window: str, reference: str = "the reference"
) -> Headline:
    """It says what drifted, worst first; or that nothing did; or that nobody can know yet."""
    untold = [one for one in columns if one.state == "incomparable"]
    hidden = [one for one in columns if one.state == "redacted"]
    judged = [one for one in columns if one.state in JUDGED]
    drifted = [one for one in columns if one.state in ("drifted", "critical")]
    broken = [one for one in columns if any(state not in QUIET for _, state in signals(one))]
    before = max((one.reference_rows for one in columns), default=0)
    if not columns:
        return Headline(
            "incomparable",
            f"No column can be compared with {reference}",
            "They have no column in common.",
        )
    if len(hidden) == len(columns):
        return Headline(
            "redacted",
            "Nothing can be said about drift: the policy hides every column",
            "Their values are kept out of the log (capture.redact).",
        )
    if rows >= LEAST_ROWS > before:
        return Headline(
            "not_enough_data",
            f"Nothing to compare with: {reference} has {before} row{pluralize(before)},"
            f" {LEAST_ROWS} needed",
        )
    if len(untold) == len(columns):
        return Headline(
            "incomparable",
            f"No column can be compared with {reference}",
            "They are dates or times." if all(map(_is_moment, untold)) else "Their bins differ.",
        )
    if len(untold) + len(hidden) == len(columns):
        return Headline(
            "incomparable",
            f"No column can be compared with {reference}",
            "; ".join((_untold(untold), _hidden(hidden))),
        )
    if not judged:
        return Headline(
            "not_enough_data",
            f"Not enough data: {rows} row{pluralize(rows)} in {window}, {LEAST_ROWS} needed",
            "Nothing is said about drift until then; choose a longer window to reach it.",
        )
    note = "; ".join(filter(None, (_broken(broken), _untold(untold), _hidden(hidden))))
    if drifted:
        critical = any(one.state == "critical" for one in drifted)
        return Headline(
            "critical" if critical else "drifted",
            f"{len(drifted)} of {len(judged)} column{pluralize(len(judged))} drifted:"
            f" {_named(drifted)}",
            note,
        )
    if broken:
        return Headline(
            "drifted", f"Inputs are distributed like {reference}, but not all are sound", note
        )
    is_part = bool(hidden) or not all(map(_is_moment, untold))
    those = "Those that can be compared look" if is_part else "Inputs look"
    those_judged = f"{len(judged)} column{pluralize(len(judged))}"
    words = f"{those_judged} of {format_num(rows)} row{pluralize(rows)} in {window}"
    return Headline("quiet", f"{those} like {reference}", "; ".join(filter(None, (words, note))))


def signals(one: "ColumnDrift") -> list[tuple[str, str]]:
    """It gives the quality signals of a column, each with its state."""
    return [(name, str(getattr(one, name).state)) for name in SIGNALS]


def freshness(last: timedelta | None, usual_seconds: float | None) -> Headline:
    """It tells whether the last request is older than the usual gap explains."""
    if last is None:
        return Headline("idle", "No request yet")
    gap = "" if usual_seconds is None else f", usual gap {format_duration(usual_seconds)}"
    words = f"Last request {format_duration(last)} ago{gap}"
    if last < timedelta(seconds=20):
        words = f"Last request just now{gap}"
    # What comes by chance stays away ten times as long every now and then.
    late = usual_seconds is not None and last.total_seconds() > max(60.0, 10 * usual_seconds)
    return Headline("late" if late else "serving", words)


def _named(columns: "Sequence[ColumnDrift]") -> str:
    words = [
        f"{one.label} (critical)" if one.state == "critical" else one.label
        for one in columns[:MOST_NAMED]
    ]
    return _listed(words, len(columns))


def _labels(columns: "Sequence[ColumnDrift]") -> str:
    return _listed([one.label for one in columns[:MOST_NAMED]], len(columns))


def _listed(words: "Sequence[str]", many: int) -> str:
    more = many - MOST_NAMED
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")


def _untold(columns: "Sequence[ColumnDrift]") -> str:
    moments = [one for one in columns if _is_moment(one)]
    others = [one for one in columns if not _is_moment(one)]
    words = [
        f"cannot be compared: {_labels(others)}" if others else "",
        f"dates and times are not compared: {_labels(moments)}" if moments else "",
    ]
    return "; ".join(filter(None, words))


def _is_moment(one: "ColumnDrift") -> bool:
    return one.kind == "moment"


def _hidden(columns: "Sequence[ColumnDrift]") -> str:
    return f"hidden by the policy: {_labels(columns)}" if columns else ""


def _broken(columns: "Sequence[ColumnDrift]") -> str:
    words = []
    for one in columns[:MOST_NAMED]:
        name = next(name for name, state in signals(one) if state not in QUIET)
        share = getattr(one, name)
        words.append(
            f"{one.label} {format_percent(share.window)} {SIGNALS[name]}"
            + (f" (reference {format_percent(share.reference)})" if share.reference else "")
        )
    return "; ".join(words)
