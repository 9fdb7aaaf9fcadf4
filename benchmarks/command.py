"""What the commands of all benchmarks do: options, one at a time, parts one after the other."""

from __future__ import annotations

import argparse
import fcntl
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn


def options(
    arguments: Sequence[str], name: str, about: str | None, *, quick: str, parts: Sequence[str]
) -> argparse.Namespace:
    """It reads `[--quick] [--json FILE] [--only PART ...] [--peers NAME ...]`."""
    parser = argparse.ArgumentParser(prog=f"portal bench {name}", description=about)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument("--only", nargs="+", choices=parts, metavar="PART", help=", ".join(parts))
    parser.add_argument("--peers", nargs="+", metavar="NAME", help="compare with these peers only")
    given = parser.parse_args(arguments)
    given.only = given.only or parts
    return given


def end_servers() -> None:
    """It makes what a signal ends still end its servers."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)


def alone(folder: Path, measure: Callable[[], int]) -> int:
    """It measures, unless another benchmark works in this folder: then it gives 2."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another benchmark runs here", file=sys.stderr)
            return 2
        return measure()


def left_out(
    given: argparse.Namespace, *, peers: Sequence[str], parts: Sequence[str]
) -> dict[str, str]:
    """It says of peers and parts that nobody asked for why they have no figures."""
    missing = {name: "left out by --peers" for name in peers if name not in given.peers}
    return missing | {part: "left out by --only" for part in parts if part not in given.only}


def go(
    parts: Mapping[str, Callable[[], None]],
    only: Sequence[str],
    *,
    failed: type[Exception],
    miss: Callable[[str, str], None],
) -> None:
    """It runs the parts of `only`; one that raises `failed` is missed, and the others still run."""
    for name, part in parts.items():
        if name in only:
            print(f"{name}:", flush=True)
            try:
                part()
            except failed as error:
                miss(name, str(error))


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
