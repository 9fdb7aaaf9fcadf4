"""What a promotion changes for callers, from the two bundles' signatures. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Change:
    """One column that callers send or get, and what becomes of it."""

    kind: Literal["added", "removed", "changed"]
    where: Literal["input", "output"]
    name: str
    text: str
    breaks: bool  # callers who do nothing get errors, or miss what they read


def between(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """It lists the differences of two signatures, those that break callers first."""
    found = [*_differences("input", old, new), *_differences("output", old, new)]
    return sorted(found, key=lambda change: not change.breaks)


def _differences(
    where: Literal["input", "output"], old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[Change]:
    before, after = _columns(old.get(f"{where}s")), _columns(new.get(f"{where}s"))
    found = []
    for name, column in after.items():
        if name not in before:
            needed = where == "input" and column.get("required", True)
            text = f"{_type(column)}, {'required' if needed else 'optional'}"
            found.append(Change("added", where, name, text, needed))
        elif _type(before[name]) != _type(column):
            text = f"{_type(before[name])} becomes {_type(column)}"
            found.append(Change("changed", where, name, text, True))
    for name, column in before.items():
        if name not in after:
            text = "is ignored from now on" if where == "input" else "is no longer answered"
            found.append(
                Change("removed", where, name, f"{_type(column)}, {text}", where == "output")
            )
    return found


def _columns(given: Sequence[Mapping[str, Any]] | None) -> dict[str, Mapping[str, Any]]:
    return {str(c.get("name") or place): c for place, c in enumerate(given or [])}


def _type(column: Mapping[str, Any]) -> str:
    kind = column.get("type", "")
    if kind == "tensor":
        return str(column.get("tensor-spec", {}).get("dtype", "tensor"))
    return str(kind or "unknown")
