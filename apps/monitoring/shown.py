"""Brings figures into the words and shapes of the monitoring page. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.template.defaultfilters import pluralize

from apps.core.templatetags.formats import format_ms, format_num, format_percent, format_rate
from apps.monitoring import headline
from apps.monitoring.minis import Mini

if TYPE_CHECKING:
    from apps.monitoring.drift import ColumnDrift
    from apps.monitoring.forms import Chosen
    from apps.monitoring.selectors.health import Health

FAILING_SHARE = 0.01
SHOWN_SHARE = 0.005  # a value or two out of the reference's range are in every window
QUALITY = {
    "missing": "Missing",
    "absent": "Not sent",
    "wrong": "Wrong type",
    "unseen": "Unseen",
    "below": "Below range",
    "above": "Above range",
    "non_finite": "Not finite",
}


@dataclass(frozen=True)
class Row:
    """One column in the ranked list."""

    one: "ColumnDrift"
    url: str
    mini: Mini | None
    why: str = ""  # it has no picture

    @property
    def words(self) -> str:
        """What a screen reader says of the small picture."""
        return (
            f"Values of {self.one.label}, {format_num(self.one.rows)} row{pluralize(self.one.rows)}"
        )

    @property
    def signals(self) -> list[dict[str, str]]:
        return [
            {"state": state, "words": f"{format_percent(_window(self.one, name))} {words}"}
            for (name, state), words in zip(
                headline.signals(self.one), headline.SIGNALS.values(), strict=True
            )
            if state not in headline.QUIET
        ]


def tiles(seen: "Health") -> list[dict[str, Any]]:
    """Requests, failures, latency, what the gateway adds, and what was not recorded."""
    callers, failed = seen.callers, seen.callers.error_rate
    is_failing = failed is not None and failed >= FAILING_SHARE
    lost = seen.dropped + seen.set_aside
    aside = (
        f", {seen.set_aside} file{pluralize(seen.set_aside)} unreadable" if seen.set_aside else ""
    )
    if seen.left_out:
        rows = f"{format_num(seen.left_out)} row{pluralize(seen.left_out)}"
        aside += f"; {rows} of large requests in the log only"
    return [
        _tile(
            "Requests", format_num(callers.requests), format_rate(callers.requests / seen.seconds)
        ),
        _tile(
            "Errors (5xx)",
            format_percent(failed),
            f"{format_num(callers.server_errors)} request{pluralize(callers.server_errors)}",
            "bad" if is_failing else "",
        ),
        _tile(
            "Rejected (4xx)",
            format_percent(seen.rejected_share),
            f"{format_num(callers.client_errors)} request{pluralize(callers.client_errors)}",
        ),
        _tile("p50", format_ms(callers.p50_ms), f"p90 {format_ms(callers.p90_ms)}"),
        _tile("p95", format_ms(callers.p95_ms), "19 of 20 were faster"),
        _tile("p99", format_ms(callers.p99_ms), f"p99.9 {format_ms(callers.p999_ms)}"),
        _tile(
            "Gateway's share",
            format_percent(seen.gateway_share),
            f"{format_ms(seen.gateway_ms)} of p50",
        ),
        _tile(
            "Not recorded",
            format_num(seen.dropped),
            f"requests of the last day{aside}",
            "warn" if lost else "",
        ),
    ]


def caption(chosen: "Chosen", rows: int) -> str:
    """What the list of columns compares."""
    version = chosen.revision.version.number if chosen.revision else 0
    part = f", slice {chosen.slice}" if chosen.slice else ""
    name = f"v{version}"
    if chosen.beside is not None and chosen.revision is not None:
        name = f"{name} (revision {chosen.revision.number})"
    if chosen.copies:
        name = f"Copies that {name} answered,"
    return (
        f"{name}{part} against {chosen.reference}, {format_num(rows)} row{pluralize(rows)};"
        " what matters most first"
    )


def distances(one: "ColumnDrift", reference: str) -> str:
    """The figures of one column, in one line."""
    values = f"{format_num(one.values)} value{pluralize(one.values)} against"
    values += f" {format_num(one.reference_values)}"
    if one.js is None:
        return f"{values} of {reference}"
    parts = [f"JS* {one.js:.3f} (threshold {one.threshold:.3f})"]
    parts += [f"PSI* {one.psi:.3f}"] if one.psi is not None else []
    parts += [f"KS {one.ks:.3f}"] if one.ks is not None else []
    parts += [f"p {one.p:.2g}"] if one.p is not None else []
    return f"{', '.join(parts)}; {values} of {reference}"


def quality(columns: "Sequence[ColumnDrift]") -> list[dict[str, Any]]:
    """The columns of which some values are not as they should be, the loudest first."""
    unsound = [
        one for one in columns if _loud(one) or any(_window(one, n) >= SHOWN_SHARE for n in QUALITY)
    ]
    unsound.sort(key=lambda one: (-_loud(one), one.label))
    return [
        {
            "label": one.label,
            "cells": [
                {
                    "word": word,
                    "share": getattr(one, name),
                    "is_loud": getattr(one, name).state not in headline.QUIET,
                }
                for name, word in QUALITY.items()
            ],
        }
        for one in unsound
    ]


def _loud(one: "ColumnDrift") -> int:
    return sum(getattr(one, name).state not in headline.QUIET for name in QUALITY)


def _window(one: "ColumnDrift", name: str) -> float:
    return getattr(one, name).window or 0.0


def _tile(label: str, value: str, note: str, state: str = "") -> dict[str, Any]:
    return {"label": label, "value": value, "note": note, "state": state}
