"""Changes weights under full load and finds when callers got what was asked for."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.serving import keys
from apps.serving.backends import envoy, routing
from benchmarks.serving.aims import Switches
from benchmarks.serving.ours import ALL, ENVIRONMENT, Gateway, Replica
from benchmarks.serving.shooting import Aim, Generator, Range

CALLERS = 8
SETTLE_SECONDS = 0.6  # a change takes effect in less, also with many endpoints on a busy machine
MOST_SECONDS = 2.0  # for each change, should nobody end the generator

Watched = tuple[float, float, str]  # sent, received, revision


@dataclass(frozen=True)
class Change:
    """All traffic goes to another revision from here on."""

    ordered: float  # when it was asked for
    renamed: float  # when the file came into place
    revision: str
    until: float  # the next change


class Renames:
    """Hears of every rename of this process at its moment: `write_routes` ends with one."""

    def __init__(self, target: Path) -> None:
        self._target = str(target)
        self.at: list[float] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(arguments[1]) == self._target:
            self.at.append(time.monotonic())


def first_new(watched: Sequence[Watched], change: Change) -> float | None:
    """It gives the seconds from the rename to the first answer of the new revision."""
    seen = [
        received
        for _, received, revision in watched
        if revision == change.revision and change.renamed < received < change.until
    ]
    return min(seen) - change.renamed if seen else None


def last_old(watched: Sequence[Watched], change: Change) -> float:
    """It gives the seconds from the rename to the start of the last request of the old one."""
    seen = [
        sent
        for sent, _, revision in watched
        if revision != change.revision and change.renamed < sent < change.until
    ]
    return max(seen) - change.renamed if seen else 0.0


def switched(
    gate: Gateway, pair: tuple[Replica, Replica], shots: Range, *, endpoints: int, trials: int
) -> Switches:
    """It moves all traffic to and fro between two replicas while callers ask."""
    routes = [[*_others(pair, endpoints), _route(pair, to)] for to in (0, 1)]
    gate.configure(_clusters(pair, endpoints), routes[0])
    aim = shots.at(gate.serving(pair[0]), pair[0].made)
    changes, seen = _under_load(gate, pair, shots, aim, routes, trials)
    found: dict[str, list[float]] = {replica.program.name: [] for replica in pair}
    watched = [(sent, received, revision) for sent, received, revision in seen["watched"]]
    for number, change in enumerate(changes):
        took = first_new(watched, change)
        # One that never came counts with all the time there was.
        took = change.until - change.renamed if took is None else took
        found[pair[1 - number % 2].program.name].append(1000 * took)
    return Switches(
        endpoints=endpoints,
        forward=found[pair[1].program.name],
        back=found[pair[0].program.name],
        last_old=[1000 * last_old(watched, change) for change in changes],
        ordered=[1000 * (change.renamed - change.ordered) for change in changes],
        requests=seen["requests"] + seen["failed"],
        failed=seen["failed"],
        failures=seen["failures"],
    )


def _under_load(
    gate: Gateway,
    pair: tuple[Replica, Replica],
    shots: Range,
    aim: Aim,
    routes: Sequence[Sequence[routing.Route]],
    trials: int,
) -> tuple[list[Change], dict[str, Any]]:
    stop = shots.folder / "stop"
    stop.unlink(missing_ok=True)
    renames = Renames(gate.files.home / "rds.json")
    spec = shots.spec(
        aim, CALLERS, seconds=30 + MOST_SECONDS * trials, watched=True, stop=str(stop)
    )
    generator = Generator(spec, shots.folder)
    rng, ordered = random.Random(7), []
    try:
        time.sleep(spec.warm_seconds + 1)
        for trial in range(trials):
            ordered.append(time.monotonic())
            gate.files.write_routes(routes[1 - trial % 2], None)
            # Not in step with anything that happens at a fixed rate.
            time.sleep(SETTLE_SECONDS + rng.random() / 10)
    finally:
        stop.touch()
        seen = generator.wait()
    ends = [*ordered[1:], time.monotonic()]
    changes = [
        Change(asked, renamed, str(pair[1 - trial % 2].revision), end)
        for trial, (asked, renamed, end) in enumerate(zip(ordered, renames.at, ends, strict=True))
    ]
    return changes, seen


def _route(pair: tuple[Replica, Replica], to: int) -> routing.Route:
    targets = [replica.target(ALL if i == to else 0) for i, replica in enumerate(pair)]
    forced = [routing.Forced(one.cluster, keys.of(one.revision), one.revision) for one in targets]
    return routing.Route(ENVIRONMENT, pair[0].made.recipe.name, targets, forced)


def _others(pair: tuple[Replica, Replica], endpoints: int) -> list[routing.Route]:
    """Endpoints that nobody asks: one revision each, with its key past the split."""
    return [
        routing.Route(
            ENVIRONMENT,
            f"other-{number}",
            [routing.Target(_other(number), 100 + number, 1, ALL)],
            [routing.Forced(_other(number), keys.of(100 + number), 100 + number)],
        )
        for number in range(1, endpoints)
    ]


def _other(number: int) -> str:
    return envoy.cluster_name(ENVIRONMENT, f"other-{number}", 100 + number)


def _clusters(pair: tuple[Replica, Replica], endpoints: int) -> dict[str, envoy.Json]:
    """One for each revision; the others' point at the same replicas, which answer their checks."""
    sockets = {replica.target().cluster: replica.socket for replica in pair}
    for number in range(1, endpoints):
        sockets[_other(number)] = pair[number % 2].socket
    return {name: envoy.cluster(name, [socket]) for name, socket in sockets.items()}
