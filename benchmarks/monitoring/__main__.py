"""`./portal bench monitoring [--quick] [--json FILE] [--only PART ...] [--peers NAME ...]`."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import django

from benchmarks.monitoring import panel

if TYPE_CHECKING:
    from benchmarks.monitoring.running import Bench

PARTS = ("truth", "car_loan", "drift", "charts", "ingest", "estimates")
IN_TABLES = ("drift", "charts", "ingest")


def main(arguments: list[str]) -> int:
    """It measures, prints the table, and gives 0 only where every aim holds."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_portal.settings")
    folder = panel.choose()
    django.setup()
    # What a signal ends must still end its servers.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another benchmark runs here", file=sys.stderr)
            return 2
        return _measure(options, folder)


def _measure(options: argparse.Namespace, folder: Path) -> int:
    from benchmarks.monitoring import peers, report, running
    from benchmarks.monitoring.aims import Figures, judge

    options.peers, options.only = options.peers or peers.NAMES, options.only or PARTS
    facts, start = report.machine(), time.monotonic()
    figures = Figures(peers=peers.NAMES)
    left_out = {name: "left out by --peers" for name in peers.NAMES if name not in options.peers}
    left_out |= {part: "left out by --only" for part in PARTS if part not in options.only}
    figures.missing |= left_out
    length = running.QUICK if options.quick else running.FULL
    bench = running.Bench(folder, length, options.peers, figures)
    bench.prepare()
    with ExitStack() as stack:
        if set(options.only) & {*IN_TABLES}:
            stack.enter_context(panel.running())
        for name, part in running.parts(bench).items():
            if name in options.only:
                print(f"{name}:", flush=True)
                _go(bench, name, part)
    verdicts, seconds = judge(figures), time.monotonic() - start
    print(f"\n{report.details(figures)}\n\n{report.table(verdicts)}\n")
    print(report.ending(figures, facts, seconds))
    if options.json:
        options.json.write_text(report.document(figures, verdicts, facts, seconds))
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def _go(bench: Bench, name: str, part: Callable[[], None]) -> None:
    from benchmarks.monitoring.peers import PeerFailed

    try:
        part()
    except PeerFailed as error:  # the other parts still say something
        bench.miss(name, str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="portal bench monitoring", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer windows and questions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--peers", nargs="+", metavar="NAME", help="compare with these peers only")
    return parser


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
