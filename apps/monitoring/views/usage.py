"""The part of the monitoring page about what replicas use."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from apps.core.templatetags.formats import NOT_MEASURED, format_num
from apps.monitoring.charts.parts import names
from apps.monitoring.forms import Chosen
from apps.monitoring.selectors import usage
from apps.monitoring.selectors.usage import Total
from apps.serving.models import Endpoint

CHARTS = (
    ("processors", "Processors by replica",
     "Busy in the mean; dotted: the most of any replica; dashed: how many one may use."),
    ("memory", "Memory by replica",
     "Dotted: the most of any replica; dashed: what one is replaced at."),
    ("in_flight", "In flight by replica",
     "As the gateway counts, waiting ones too. Dashed: as many as one replica is to have."),
    ("saturation", "Saturation by version",
     "In flight of all replicas; processors and memory of the fullest one."),
)  # fmt: skip
NEAR = 0.9  # of a limit


def replicas(
    endpoint: Endpoint, chosen: Chosen, since: datetime, until: datetime
) -> dict[str, Any]:
    """What a replica of each revision used in a window, in words."""
    both = (chosen.revision, chosen.other) if chosen.other else ()
    among = [one.number for one in both if one is not None]
    rows = usage.totals(endpoint, since, until, among=among)
    return {
        "use": [
            {
                "name": name,
                "number": row.revision.version.number,
                "replicas": row.replicas,
                "cells": [
                    _cell("Processors", row.processors, format_num, row.processors.mean),
                    # One peak is enough: then it is replaced.
                    _cell("Memory", row.memory_mb, _mebibytes, row.memory_mb.most),
                    _cell("In flight", row.in_flight, format_num, row.in_flight.mean),
                ],
            }
            for name, row in zip(names(rows), rows, strict=True)
        ]
    }


def charts() -> list[dict[str, str]]:
    return [{"kind": kind, "caption": caption, "note": note} for kind, caption, note in CHARTS]


def _cell(
    word: str, total: Total, written: Callable[[float | None], str], judged: float | None
) -> dict[str, Any]:
    known = {"most": total.most, "limit": total.limit}
    notes = [f"{name} {written(value)}" for name, value in known.items() if value is not None]
    return {
        "word": word,
        "mean": written(total.mean),
        "note": ", ".join(notes),
        "is_near": judged is not None and total.limit is not None and judged >= NEAR * total.limit,
    }


def _mebibytes(value: float | None) -> str:
    """As a policy and the reasons of replacements write memory."""
    if value is None:
        return NOT_MEASURED
    return f"{value / 1024:.1f} GiB" if value >= 1000 else f"{value:.0f} MiB"
