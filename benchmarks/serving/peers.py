"""The other servers, each with its own environment, started the way its documentation says."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import environments, models, processes, questions
from benchmarks.serving.load import Address
from benchmarks.serving.processes import Program
from benchmarks.serving.questions import Questions

SCRIPTS = Path(__file__).parent / "servers"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Where:
    """Where a peer's files lie while it serves one model."""

    environment: Path
    folder: Path  # of its own, for what it wants to find or leaves
    run: Path  # for sockets
    port: int
    model: models.Made

    @property
    def bin(self) -> Path:
        return self.environment / "bin"


@dataclass(frozen=True)
class Peer:
    name: str
    words: str
    packages: str  # which environment
    argv: Callable[[Where], list[str]]
    asked: Callable[[models.Made], Sequence[Questions]]  # the fastest is found by trial


@dataclass(frozen=True)
class Serving:
    """A server that is up with one model."""

    name: str
    address: Address
    asked: Sequence[Questions]
    programs: Sequence[Program]
    start_seconds: float

    def pids(self) -> list[int]:
        return [pid for program in self.programs for pid in program.pids()]

    def freeze(self) -> None:
        for program in self.programs:
            program.freeze()

    def thaw(self) -> None:
        for program in self.programs:
            program.thaw()


def _mlflow(where: Where) -> list[str]:
    argv = [str(where.bin / "mlflow"), "models", "serve", "--model-uri", str(where.model.mlflow)]
    argv += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(where.port)]
    return [*argv, "--workers", "1"]


def _mlserver(
    implementation: str, uri: Callable[[models.Made], Path]
) -> Callable[[Where], list[str]]:
    def argv(where: Where) -> list[str]:
        settings = {
            "host": "127.0.0.1",
            "http_port": where.port,
            "grpc_port": processes.free_port(),
            "metrics_port": processes.free_port(),
            "parallel_workers": 0,  # in the event loop: for one process the faster way
            "debug": False,
        }
        served = {
            "name": "rows",
            "implementation": implementation,
            "parameters": {"uri": str(uri(where.model))},
        }
        where.folder.mkdir(parents=True, exist_ok=True)
        (where.folder / "settings.json").write_text(json.dumps(settings))
        (where.folder / "model-settings.json").write_text(json.dumps(served))
        return [str(where.bin / "mlserver"), "start", str(where.folder)]

    return argv


def _bentoml(where: Where) -> list[str]:
    argv = [str(where.bin / "bentoml"), "serve", "bento_service:Rows"]
    argv += ["--working-dir", str(SCRIPTS), "--host", "127.0.0.1", "--port", str(where.port)]
    return argv


def _ray(where: Where) -> list[str]:
    # Ray puts sockets there, whose paths may have 107 characters.
    folder = where.run / "ray"
    shutil.rmtree(folder, ignore_errors=True)
    return [str(where.bin / "python"), str(SCRIPTS / "ray_app.py"), str(where.port), str(folder)]


PEERS = (
    Peer(
        "mlflow", "mlflow models serve", "mlflow", _mlflow,
        lambda made: [
            questions.scoring_inputs("/invocations", made.rows, models.COLUMNS),
            questions.scoring_split("/invocations", made.rows, models.COLUMNS),
        ],
    ),
    Peer(
        "mlserver-sklearn", "MLServer, sklearn runtime", "mlserver",
        _mlserver("mlserver_sklearn.SKLearnModel", lambda made: made.plain),
        lambda made: [questions.v2_matrix("/v2/models/rows/infer", made.rows)],
    ),
    Peer(
        "mlserver-mlflow", "MLServer, mlflow runtime", "mlserver",
        _mlserver("mlserver_mlflow.MLflowRuntime", lambda made: made.mlflow),
        lambda made: [
            questions.v2_columns("/v2/models/rows/infer", made.rows, models.COLUMNS),
            questions.scoring_split("/invocations", made.rows, models.COLUMNS),
        ],
    ),
    Peer(
        "bentoml", "BentoML", "bentoml", _bentoml,
        lambda made: [
            questions.array("/predict", made.rows, (0,)),
            questions.array("/predict_in_thread", made.rows, (0,)),
        ],
    ),
    Peer(
        "ray", "Ray Serve", "ray", _ray,
        lambda made: [questions.array("/", made.rows, ("predictions", 0))],
    ),
)  # fmt: skip


def started(
    peer: Peer, made: models.Made, environment: Path, *, folder: Path, run: Path,
    is_right: Callable[[Address, Questions], bool],
) -> Serving:  # fmt: skip
    """It starts a peer and waits for a right answer. Raises: NotStarted."""
    where = Where(environment, folder / peer.name, run, processes.free_port(), made)
    where.folder.mkdir(parents=True, exist_ok=True)
    program = processes.start(
        f"{peer.name}.{made.recipe.name}", peer.argv(where), env=_env(where),
        cwd=where.folder, run=run, log=folder / "logs" / f"{peer.name}.{made.recipe.name}.log",
    )  # fmt: skip
    address, asked = ("127.0.0.1", where.port), peer.asked(made)
    try:
        took = program.wait_ready(lambda: is_right(address, asked[-1]))
    except BaseException:
        program.stop()
        raise
    return Serving(peer.name, address, asked, [program], took)


def installed(peer: Peer, folder: Path) -> Path:
    """It gives the peer's environment. Raises: UvFailed, core.errors.Unavailable."""
    packages = (
        *environments.PEERS[peer.packages], *environments.MODELS,
        *environments.BOOSTING, *environments.PICKLE,
    )  # fmt: skip
    return environments.made(folder / peer.packages, packages)


def _env(where: Where) -> dict[str, str]:
    return {
        "PATH": f"{where.bin}:/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": str(where.environment),
        "HOME": str(where.folder),
        "LANG": "C.UTF-8",
        "BENCH_MODEL": str(where.model.plain),
        "NO_PROXY": os.environ.get("NO_PROXY", "127.0.0.1,localhost"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "BENTOML_DO_NOT_TRACK": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
        # One row at a time: a second thread would only wait. Ours is started so too.
        **dict.fromkeys(THREADS, "1"),
    }
