"""Goes through the parts of the benchmark, one after the other, and collects the figures."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from apps.builds.steps.uv import UvFailed
from apps.core import sandbox
from apps.core.errors import Unavailable
from benchmarks.serving import models, ours, peers, switching
from benchmarks.serving.aims import SWITCH_MS, Figures, Start
from benchmarks.serving.figures import Shot
from benchmarks.serving.ours import Gateway, Replica, Replicas
from benchmarks.serving.peers import Peer, Serving
from benchmarks.serving.processes import NotStarted
from benchmarks.serving.shooting import Aim, Range, is_right
from mlops_portal.stack.config import Stack

LIBRARY_LOOP = peers.SCRIPTS / "library_loop.py"
MANY_CALLERS = 32  # so that the kernel shares connections evenly between workers


@dataclass(frozen=True)
class Length:
    """How long and how often."""

    seconds: float
    rounds: int
    concurrencies: Sequence[int]
    pairs: int
    trials: int  # of weight changes, for each number of endpoints


FULL = Length(seconds=3, rounds=3, concurrencies=(1, 8, 32), pairs=5, trials=40)
QUICK = Length(seconds=1.5, rounds=1, concurrencies=(8,), pairs=3, trials=12)


@dataclass
class Bench:
    """One run, with its folder below the data directory."""

    stack: Stack
    folder: Path
    run: Path
    length: Length
    chosen: Sequence[Peer]
    figures: Figures
    made: dict[str, models.Made] = field(default_factory=dict)
    _revision: int = 0

    def __post_init__(self) -> None:
        self.shots = Range(self.folder / "work", seconds=self.length.seconds)
        self.replicas = Replicas(folder=self.folder, run=self.run)
        self._environments: dict[str, Path] = {}

    def prepare(self) -> None:
        """It trains the models and makes all environments, so that nothing installs later."""
        for recipe in models.ALL:
            say(f"training {recipe.words}")
            self.made[recipe.name] = models.made(recipe, self.folder / "models" / recipe.name)
            ours.model_environment(recipe, self.folder)
        for peer in self.chosen:
            try:
                place = self.folder / "environments"
                self._environments[peer.name] = peers.installed(peer, place)
            except (UvFailed, Unavailable) as error:
                self.miss(peer.name, f"cannot be installed: {error}")

    def compare(self, model: str) -> None:
        """It asks all servers about one model, in turn, round after round."""
        made, length = self.made[model], self.length
        with ExitStack() as stack:
            gate = stack.enter_context(self._gateway())
            replica = stack.enter_context(self._replica(made))
            servings = [gate.serve(replica)]
            servings[0].freeze()
            servings += self._peers(made, stack)
            for turn in range(length.rounds):
                if made.recipe.is_trees:
                    self._library(made)
                # The linear model is what peers are compared by; trees have one aim, at 8.
                whole = not made.recipe.is_trees or not turn
                for callers in length.concurrencies if whole else (8,):
                    for serving in servings:
                        self._fire(serving, made, callers)
            self._note(replica)

    def gateway(self) -> None:
        """It asks one replica through the gateway and past it, in turn."""
        made = self.made["linear"]
        with self._gateway() as gate, self._replica(made) as replica:
            through = self.shots.at(gate.serve(replica), made)
            past = _direct(replica, through)
            for callers in (1, 8):
                for turn in range(self.length.pairs):
                    pair = self._pair((through, past), callers, turn)
                    self.figures.gateway.append(pair)
            self._note(replica)
        _say_pairs("through the gateway and past it", self.figures.gateway)

    def capture(self) -> None:
        """It asks a replica that captures and one that does not, both through the gateway."""
        made = self.made["linear"]
        with (
            self._gateway() as gate,
            self._replica(made) as captures,
            self._replica(made, captures=False) as forgets,
        ):
            places = {ours.ENVIRONMENT: captures, "uncaptured": forgets}
            gate.route(places)
            aims = [
                self.shots.at(gate.serving(replica, environment), made)
                for environment, replica in places.items()
            ]
            for turn in range(self.length.pairs):
                self.figures.capture.append(self._pair((aims[0], aims[1]), 8, turn))
        _say_pairs("captured and not", self.figures.capture)

    def workers(self) -> None:
        """It asks replicas with two workers and with one at their own sockets."""
        made = self.made["linear"]
        with self._replica(made, workers=2) as two, self._replica(made) as one:
            asked = ours.direct(made)[1]
            aims = [
                Aim(ours.OURS, made, str(replica.socket), asked, replica.program.pids())
                for replica in (two, one)
            ]
            for turn in range(max(3, self.length.pairs // 2)):
                pair = self._pair((aims[0], aims[1]), MANY_CALLERS, turn)
                self.figures.workers.append(pair)
        _say_pairs("two workers and one", self.figures.workers)

    def switches(self) -> None:
        """It changes weights under full load, with few endpoints and with many."""
        made = self.made["linear"]
        for endpoints in SWITCH_MS:
            with (
                self._gateway() as gate,
                self._replica(made) as first,
                self._replica(made) as second,
            ):
                found = switching.switched(
                    gate, (first, second), self.shots,
                    endpoints=endpoints, trials=self.length.trials,
                )  # fmt: skip
                self.figures.switches.append(found)
                self._note(first)
                self._note(second)
            say(f"{endpoints} endpoints: {len(found.forward)} changes there and as many back")

    def _peers(self, made: models.Made, stack: ExitStack) -> list[Serving]:
        found = []
        for peer in self.chosen:
            if peer.name not in self._environments:
                continue
            try:
                serving = peers.started(
                    peer, made, self._environments[peer.name], folder=self.folder, run=self.run,
                    is_right=lambda address, asked: is_right(made, address, asked),
                )  # fmt: skip
            except NotStarted as error:
                self.miss(peer.name, str(error))
                continue
            for program in serving.programs:
                stack.callback(program.stop)
            say(f"{peer.words} serves {made.recipe.name} after {serving.start_seconds:.1f} s")
            serving.freeze()
            found.append(serving)
        return found

    def _fire(self, serving: Serving, made: models.Made, callers: int) -> None:
        """It lets one server run alone and asks it."""
        serving.thaw()
        try:
            shot = self.shots.fire(self.shots.at(serving, made), callers)
        finally:
            serving.freeze()
        self.figures.shots.append(shot)
        say(
            f"{shot.model}, {callers} callers, {shot.system} ({shot.protocol}): {shot.rate:.0f}/s, "
            f"p99 {shot.p99:.1f} ms, {shot.failed} failed {' '.join(shot.failures[:1])}"
        )

    def _pair(self, aims: tuple[Aim, Aim], callers: int, turn: int) -> tuple[Shot, Shot]:
        """It asks both, now the one first and now the other."""
        shots: list[Shot] = [
            self.shots.fire(aims[i], callers) for i in ((0, 1) if turn % 2 == 0 else (1, 0))
        ]
        first, second = shots if turn % 2 == 0 else reversed(shots)
        return first, second

    def _library(self, made: models.Made) -> None:
        """It lets the library predict in a loop, in the model's environment, as a replica would."""
        python = ours.model_environment(made.recipe, self.folder) / "bin" / "python"
        done = subprocess.run(
            [python, LIBRARY_LOOP, made.plain, made.rows_file, str(self.length.seconds)],
            env=dict.fromkeys(peers.THREADS, "1"), capture_output=True, text=True, check=True,
        )  # fmt: skip
        rate = float(done.stdout)
        self.figures.library.setdefault(made.recipe.name, []).append(rate)
        say(f"{made.recipe.name}, the library in a loop: {rate:.0f}/s")

    @contextmanager
    def _gateway(self) -> Iterator[Gateway]:
        gate = Gateway(self.stack, folder=self.folder, run=self.run)
        try:
            yield gate
        finally:
            gate.program.stop()

    @contextmanager
    def _replica(
        self, made: models.Made, *, workers: int = 1, captures: bool = True
    ) -> Iterator[Replica]:
        self._revision += 1
        replica = self.replicas.start(made, self._revision, workers=workers, captures=captures)
        try:
            yield replica
        finally:
            replica.program.stop()

    def _note(self, replica: Replica) -> None:
        """It keeps how a replica started and what it takes after it has served."""
        model, mb = replica.made.recipe.name, replica.program.rss_mb()
        self.figures.starts.append(Start(model, replica.ready_seconds, mb))

    def miss(self, name: str, words: str) -> None:
        """It keeps why something cannot be measured, which its aims then say."""
        self.figures.missing[name] = words
        say(f"{name}: {words}")


def parts(bench: Bench) -> dict[str, Callable[[], None]]:
    """It gives everything that is measured, in order."""
    compared = {recipe.name: partial(bench.compare, recipe.name) for recipe in models.ALL}
    return {
        **compared,
        "gateway": bench.gateway,
        "capture": bench.capture,
        "workers": bench.workers,
        "switches": bench.switches,
    }


def clear(bench: Bench) -> None:
    """It ends whatever is left, and takes away sockets, captured rows and the gateway's log."""
    sandbox.end_all(str(bench.run))
    shutil.rmtree(bench.run, ignore_errors=True)
    for name in ("spool", "gateway", "work"):
        shutil.rmtree(bench.folder / name, ignore_errors=True)


def say(words: str) -> None:
    """It tells how far the run has come."""
    print(f"  {words}", flush=True)


def _direct(replica: Replica, through: Aim) -> Aim:
    """It aims at a replica's own socket, in the protocol that is used through the gateway."""
    asked = next(one for one in ours.direct(replica.made) if one.protocol == through.asked.protocol)
    return Aim(ours.OURS, replica.made, str(replica.socket), asked, through.pids)


def _say_pairs(what: str, pairs: Sequence[tuple[Shot, Shot]]) -> None:
    for first, second in pairs:
        say(
            f"{what}, {first.concurrency} callers: {first.rate:.0f}/s and {second.rate:.0f}/s, "
            f"p50 {first.p50:.2f} and {second.p50:.2f} ms"
        )
