"""`./portal bench serving [--quick] [--json FILE] [--only PART ...] [--peers NAME ...]`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import django

from benchmarks import command

PARTS = ("linear", "lightgbm", "forest", "gateway", "capture", "workers", "switches")


def main(arguments: list[str]) -> int:
    """It measures, prints the table, and gives 0 only where every aim holds."""
    options = command.options(
        arguments, "serving", main.__doc__, quick="one short round, 8 callers only", parts=PARTS
    )
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_portal.settings")
    django.setup()
    command.end_servers()
    from django.conf import settings

    folder = settings.STACK.var / "bench"
    folder.mkdir(exist_ok=True)
    return command.alone(folder, lambda: _measure(options, folder))


def _measure(options: argparse.Namespace, folder: Path) -> int:
    from django.conf import settings

    from benchmarks.serving import peers, report, running
    from benchmarks.serving.aims import Figures, judge
    from benchmarks.serving.processes import NotStarted

    names = [peer.name for peer in peers.PEERS]
    options.peers = options.peers or names
    chosen = [peer for peer in peers.PEERS if peer.name in options.peers]
    run = settings.STACK.run / "bench"
    run.mkdir(mode=0o711, exist_ok=True)
    facts, start = report.machine(), time.monotonic()
    figures = Figures(cpus=len(os.sched_getaffinity(0)), peers=names)
    figures.missing |= command.left_out(options, peers=names, parts=PARTS)
    length = running.QUICK if options.quick else running.FULL
    bench = running.Bench(settings.STACK, folder, run, length, chosen, figures)
    try:
        bench.prepare()
        command.go(running.parts(bench), options.only, failed=NotStarted, miss=bench.miss)
    finally:
        running.clear(bench)
    verdicts, seconds = judge(figures), time.monotonic() - start
    print(f"\n{report.shots(figures)}\n\n{report.table(verdicts)}\n")
    print(report.ending(figures, facts, seconds))
    if options.json:
        options.json.write_text(report.document(figures, verdicts, facts, seconds))
    return 0 if all(verdict.holds for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
