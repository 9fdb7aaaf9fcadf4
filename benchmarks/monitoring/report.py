"""What people and programs read of a run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from benchmarks.monitoring import environments, truth
from benchmarks.monitoring.aims import OURS, Figures, Judged, percent
from benchmarks.serving import report as serving
from benchmarks.serving.aims import Verdict

MOST_FEATURES = 5  # named in one line


def machine() -> dict[str, Any]:
    """It describes what everything ran on."""
    return {**serving.machine(), "versions": environments.PEERS}


def table(verdicts: Sequence[Verdict]) -> str:
    """It shows each aim with what was seen, the peers' figures, and whether it holds."""
    return serving.table(verdicts)


def details(figures: Figures) -> str:
    """It shows everything beside the aims, a part of the run after the other."""
    parts = [_judged(figures), _car_loan(figures), _drift(figures), _estimates(figures)]
    return "\n\n".join(part for part in parts if part)


def ending(figures: Figures, facts: dict[str, Any], seconds: float) -> str:
    """It says what was not measured, on what all ran, and whether it was busy with other work."""
    lines = [f"{name}: {words}" for name, words in figures.missing.items()]
    lines.append(f"{facts['usable_cpus']} CPUs, {facts['cpu']}; took {seconds:.0f} s")
    load = facts["load_before"][0]
    if load > serving.BUSY * facts["usable_cpus"]:
        lines.append(f"The machine was busy before (load {load:.1f}): the times say little")
    return "\n".join(lines)


def document(
    figures: Figures, verdicts: Sequence[Verdict], facts: dict[str, Any], seconds: float
) -> str:
    """It writes everything as JSON."""
    return json.dumps(
        {
            "machine": facts,
            "took_seconds": round(seconds, 1),
            "verdicts": [dataclasses.asdict(one) for one in verdicts],
            "figures": dataclasses.asdict(figures),
        },
        indent=1,
    )


def _judged(figures: Figures) -> str:
    head = "{:16} {:>6}  {:10} {:>7} {:>8} {:>12}  {}"
    lines = [head.format("case", "rows", "tool", "windows", "found", "false alarms", "false in")]
    ordered = [
        found
        for rows in truth.ROWS
        for case in truth.CASES
        for tool in (OURS, *figures.peers)
        if (found := figures.of(tool, case.name, rows)) is not None
    ]
    lines += [
        head.format(
            one.case, one.rows, one.tool, one.windows,
            "-" if one.case == truth.UNCHANGED.name else percent(one.found, one.windows),
            percent(one.alarms, one.windows), _features(one),
        )
        for one in ordered
    ]  # fmt: skip
    return "\n".join(line.rstrip() for line in lines) if ordered else ""


def _features(judged: Judged) -> str:
    """It names the features that fired most often without a change."""
    ordered = sorted(judged.by_feature.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {count}" for name, count in ordered[:MOST_FEATURES]]
    more = len(ordered) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _car_loan(figures: Figures) -> str:
    return "\n".join(
        f"car loan, {one.tool}: {one.found} of {one.changed} found, {one.wrong} of "
        f"{one.unchanged} false {'; '.join(one.wrongly)}".rstrip()
        for one in figures.car_loan
    )


def _drift(figures: Figures) -> str:
    return "\n".join(
        f"drift of {one.predictions:,} predictions, {one.tool}: {one.seconds:.3f} s "
        f"(read before: {one.load_seconds:.1f} s), {one.peak_mb:,.0f} MiB"
        for one in figures.drift
    )


def _estimates(figures: Figures) -> str:
    return "\n".join(
        f"quality without labels, {one.tool}: mean error of AUC {one.auc_error:.4f}, "
        f"of accuracy {one.accuracy_error:.4f}; {1000 * one.seconds:.0f} ms"
        for one in figures.estimates
    )
