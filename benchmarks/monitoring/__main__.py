"""`./portal bench monitoring [--quick] [--json FILE] [--only PART ...] [--peers NAME ...]`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import django

from benchmarks import command
from benchmarks.monitoring import panel

PARTS = ("truth", "car_loan", "drift", "charts", "ingest", "estimates")
IN_TABLES = ("drift", "charts", "ingest")


def main(arguments: list[str]) -> int:
    """It measures, prints the table, and gives 0 only where every aim holds."""
    options = command.options(
        arguments, "monitoring", main.__doc__, quick="fewer windows and questions", parts=PARTS
    )
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_portal.settings")
    folder = panel.choose()
    django.setup()
    command.end_servers()
    return command.alone(folder, lambda: _measure(options, folder))


def _measure(options: argparse.Namespace, folder: Path) -> int:
    from benchmarks.monitoring import peers, report, running
    from benchmarks.monitoring.aims import Figures, judge

    options.peers = options.peers or peers.NAMES
    facts, start = report.machine(), time.monotonic()
    figures = Figures(peers=peers.NAMES)
    figures.missing |= command.left_out(options, peers=peers.NAMES, parts=PARTS)
    length = running.QUICK if options.quick else running.FULL
    bench = running.Bench(folder, length, options.peers, figures)
    bench.prepare()
    with ExitStack() as stack:
        if set(options.only) & {*IN_TABLES}:
            stack.enter_context(panel.running())
        command.go(running.parts(bench), options.only, failed=peers.PeerFailed, miss=bench.miss)
    verdicts, seconds = judge(figures), time.monotonic() - start
    print(f"\n{report.details(figures)}\n\n{report.table(verdicts)}\n")
    print(report.ending(figures, facts, seconds))
    if options.json:
        options.json.write_text(report.document(figures, verdicts, facts, seconds))
    return 0 if all(verdict.holds for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
