"""Turns a check's evidence, whatever the gate kept, into facts and tables for people. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_ROWS = 100


@dataclass(frozen=True)
class Part:
    """Facts (name and value), or a table of rows that have the same columns."""

    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    left_out: int = 0


@dataclass(frozen=True)
class Axis:
    """A difference of two metrics with its interval, and the border that it may not cross."""

    low: float
    high: float
    value: float
    limit: float | None
    words: str


def axis(evidence: Mapping[str, Any]) -> Axis | None:
    """It gives what a comparison can draw; None for a check that compares nothing."""
    found = [evidence.get(key) for key in ("low", "high", "difference")]
    if not all(isinstance(number, int | float) for number in found):
        return None
    low, high, value = (float(number) for number in found if number is not None)
    tolerance, worse = evidence.get("tolerance"), evidence.get("worse_by", 0)
    limit = None
    if isinstance(tolerance, int | float):
        # Worse is below zero for a metric where higher is better, and above for the others.
        limit = float(tolerance) if worse * value > 0 else -float(tolerance)
    words = f"difference {value:+.4f}, interval {low:+.4f} to {high:+.4f}"
    return Axis(low, high, value, limit, words)


def parts(evidence: Mapping[str, Any]) -> list[Part]:
    """It gives the plain values first, then one part for each value that holds others."""
    facts = [(_words(key), _text(value)) for key, value in evidence.items() if _is_plain(value)]
    shown = [Part("", facts)] if facts else []
    for key, value in evidence.items():
        if not _is_plain(value):
            shown.append(_nested(_words(key), value))
    return shown


def _nested(title: str, value: Any) -> Part:
    if isinstance(value, Mapping):
        if value and all(isinstance(inner, Mapping) for inner in value.values()):
            return _table(title, [{"": key, **inner} for key, inner in value.items()])
        return Part(title, [(_words(key), _text(inner)) for key, inner in value.items()])
    if value and all(isinstance(inner, Mapping) for inner in value):
        return _table(title, value)
    return Part(title, [(str(place), _text(inner)) for place, inner in enumerate(value, 1)])


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Part:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    shown = [[_text(row.get(key)) for key in keys] for row in rows[:MOST_ROWS]]
    left_out = max(0, len(rows) - MOST_ROWS)
    return Part(title, [], [_words(key) for key in keys], shown, left_out)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return not value
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(not isinstance(inner, Mapping) for inner in value)
    return True


def _words(key: object) -> str:
    return str(key).replace("_", " ")


def _text(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(inner) for inner in value)
    return str(value)
