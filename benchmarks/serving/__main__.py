"""`./portal bench serving [--quick] [--json FILE] [--only PART ...] [--peers NAME ...]`."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import django

if TYPE_CHECKING:
    from benchmarks.serving.running import Bench

PARTS = ("linear", "lightgbm", "forest", "gateway", "capture", "workers", "switches")


def main(arguments: list[str]) -> int:
    """It measures, prints the table, and gives 0 only where every aim holds."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_portal.settings")
    django.setup()
    # What a signal ends must still end its servers.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    from django.conf import settings

    folder = settings.STACK.var / "bench"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another benchmark runs here", file=sys.stderr)
            return 2
        return _measure(options, folder)


def _measure(options: argparse.Namespace, folder: Path) -> int:
    from django.conf import settings

    from benchmarks.serving import peers, report, running
    from benchmarks.serving.aims import Figures, judge

    names = [peer.name for peer in peers.PEERS]
    options.peers, options.only = options.peers or names, options.only or PARTS
    chosen = [peer for peer in peers.PEERS if peer.name in options.peers]
    run = settings.STACK.run / "bench"
    run.mkdir(mode=0o711, exist_ok=True)
    facts, start = report.machine(), time.monotonic()
    figures = Figures(cpus=len(os.sched_getaffinity(0)), peers=names)
    left_out = {name: "left out by --peers" for name in names if name not in options.peers}
    left_out |= {part: "left out by --only" for part in PARTS if part not in options.only}
    figures.missing |= left_out
    length = running.QUICK if options.quick else running.FULL
    bench = running.Bench(settings.STACK, folder, run, length, chosen, figures)
    try:
        bench.prepare()
        for name, part in running.parts(bench).items():
            if name in options.only:
                print(f"{name}:", flush=True)
                _go(bench, name, part)
    finally:
        running.clear(bench)
    verdicts, seconds = judge(figures), time.monotonic() - start
    print(f"\n{report.shots(figures)}\n\n{report.table(verdicts)}\n")
    print(report.ending(figures, facts, seconds))
    if options.json:
        options.json.write_text(report.document(figures, verdicts, facts, seconds))
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def _go(bench: Bench, name: str, part: Callable[[], None]) -> None:
    from benchmarks.serving.processes import NotStarted

    try:
        part()
    except NotStarted as error:  # of our own: the other parts still say something
        bench.miss(name, str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="portal bench serving", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, 8 callers only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--peers", nargs="+", metavar="NAME", help="compare with these peers only")
    return parser


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
