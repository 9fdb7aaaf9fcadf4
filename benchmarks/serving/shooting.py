"""Runs the load generator against a server and keeps what it saw."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving import load
from benchmarks.serving.figures import Shot
from benchmarks.serving.load import Address
from benchmarks.serving.models import Made
from benchmarks.serving.peers import Serving
from benchmarks.serving.questions import Questions

ROOT = Path(__file__).resolve().parents[2]
WARM_SECONDS = 0.5
TRIALS, TRIAL_SECONDS = 2, 0.8


class Generator:
    """The generator's process, at work from the start."""

    def __init__(self, spec: load.Spec, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._out = folder / "seen.json"
        self._out.unlink(missing_ok=True)
        load.written(spec, folder / "spec.json")
        argv = [sys.executable, "-m", "benchmarks.serving.load"]
        self._process = subprocess.Popen(
            [*argv, str(folder / "spec.json"), str(self._out)], cwd=ROOT
        )

    def wait(self) -> dict[str, Any]:
        """It gives what the generator saw. Raises: RuntimeError when it failed itself."""
        try:
            code = self._process.wait()
        except BaseException:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            raise
        if code:
            raise RuntimeError(f"the load generator ended with {code}")
        seen: dict[str, Any] = json.loads(self._out.read_bytes())
        return seen


@dataclasses.dataclass(frozen=True)
class Aim:
    """Where a generator points: a server, in one protocol, about one model's rows."""

    system: str
    made: Made
    address: Address
    asked: Questions
    pids: Sequence[int]


class Range:
    """Where shots are fired: the generator's folder and how long each takes."""

    def __init__(self, folder: Path, *, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self._fastest: dict[str, int] = {}  # server -> which of its protocols

    def spec(self, aim: Aim, concurrency: int, **more: Any) -> load.Spec:
        """It writes down what the generator shall do."""
        return load.Spec(
            address=aim.address,
            requests=aim.asked.requests,
            expected=aim.made.expected,
            answer=aim.asked.answer,
            concurrency=concurrency,
            cpu_of=list(aim.pids),
            **({"seconds": self.seconds, "warm_seconds": WARM_SECONDS} | more),
        )

    def fire(self, aim: Aim, concurrency: int, **more: Any) -> Shot:
        """It runs the generator once."""
        seen = Generator(self.spec(aim, concurrency, **more), self.folder).wait()
        seen.pop("watched")
        seen["failures"] = tuple(seen["failures"])
        seen["worker_cpu_seconds"] = tuple(seen["worker_cpu_seconds"])
        return Shot(
            system=aim.system, model=aim.made.recipe.name, concurrency=concurrency,
            protocol=aim.asked.protocol, **seen,
        )  # fmt: skip

    def at(self, serving: Serving, made: Made) -> Aim:
        """It aims at a server in the protocol in which it is fastest, found by a trial."""
        aims = [
            Aim(serving.name, made, serving.address, asked, serving.pids())
            for asked in serving.asked
        ]
        if serving.name not in self._fastest:
            self._fastest[serving.name] = self._tried(aims) if len(aims) > 1 else 0
        return aims[self._fastest[serving.name]]

    def _tried(self, aims: Sequence[Aim]) -> int:
        rates = [0.0 for _ in aims]
        for _ in range(TRIALS):  # in turn, so that a noisy neighbour does not choose
            for number, aim in enumerate(aims):
                shot = self.fire(aim, 8, seconds=TRIAL_SECONDS, warm_seconds=0.3)
                rates[number] = max(rates[number], shot.rate)
        return rates.index(max(rates))


def is_right(made: Made, address: Address, asked: Questions) -> bool:
    """It asks once and tells whether the answer is right."""
    try:
        with load.connect(address) as asking:
            asking.sendall(asked.requests[0].encode("ascii"))
            data = b""
            while part := asking.recv(1 << 16):
                data += part
                answer = load.answer_in(data)
                if answer is not None:
                    right = load.is_right(answer.body, asked.answer, made.expected[0])
                    return answer.status == 200 and right
    except (OSError, ValueError):
        pass
    return False
