"""This product as it ships: Envoy and replicas of the model server, started by its own modules."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apps.serving.backends import Running, WantedRevision, envoy, gateway, programs, routing, unix
from benchmarks.serving import environments, models, processes, questions
from benchmarks.serving.peers import Serving
from benchmarks.serving.processes import NotStarted, Program
from benchmarks.serving.questions import Questions
from mlops_portal.stack import envoy as embedded
from mlops_portal.stack.config import Stack

OURS = "ours"
ENVIRONMENT = "production"
ALL = 1000  # thousandths of the traffic
READY_SECONDS = 60.0
# For a model server without the switch: the record is made, and goes nowhere.
NOT_CAPTURED = (
    "import sys\n"
    "from model_server.capture import Capture\n"
    "from model_server.cli import main\n"
    "Capture.add = lambda self, record: None\n"
    "sys.exit(main(sys.argv[1:]))\n"
)


@dataclasses.dataclass(frozen=True)
class Replica:
    """A replica that is ready."""

    made: models.Made
    revision: int
    program: Program
    socket: Path
    ready_seconds: float

    def target(self, weight: int = ALL) -> routing.Target:
        """It stands in a route with this weight."""
        name = envoy.cluster_name(ENVIRONMENT, self.made.recipe.name, self.revision)
        return routing.Target(name, self.revision, 1, weight)


class Gateway:
    """The embedded Envoy with files, ports and sockets of its own."""

    def __init__(self, stack: Stack, *, folder: Path, run: Path) -> None:
        self.port = processes.free_port()
        home = folder / "gateway"
        shutil.rmtree(home, ignore_errors=True)
        own = dataclasses.replace(stack, var=folder, run=run, gateway_port=self.port)
        prepared = embedded.prepare(own)
        self.files = gateway.Gateway(home=home, admin=own.gateway_admin, port=self.port)
        self.program = processes.start(
            "gateway", prepared.argv, env=prepared.env, cwd=prepared.cwd, run=run,
            log=folder / "logs" / "gateway.log",
        )  # fmt: skip
        try:
            self.program.wait_ready(lambda: self.files.status() is not None)
        except BaseException:
            self.program.stop()
            raise
        self.files.write_routes([], None)  # which the listener's file refers to
        self.files.write_listener(self.files.status())

    def configure(
        self, clusters: Mapping[str, envoy.Json], routes: Sequence[routing.Route]
    ) -> None:
        """It writes clusters and routes and waits until Envoy has them and finds all healthy.

        Raises: NotStarted.
        """
        self.files.write_clusters(clusters, self.files.status())
        self._wait("cds.json", clusters)
        self.files.write_routes(routes, self.files.status())
        self._wait("rds.json", clusters)

    def serve(self, replica: Replica, environment: str = ENVIRONMENT) -> Serving:
        """It gives one replica all traffic. Raises: NotStarted."""
        self.route({environment: replica})
        return self.serving(replica, environment)

    def route(self, served: Mapping[str, Replica]) -> None:
        """It gives each replica all traffic of one environment. Raises: NotStarted."""
        targets = {environment: replica.target() for environment, replica in served.items()}
        self.configure(
            {
                targets[environment].cluster: envoy.cluster(
                    targets[environment].cluster, [replica.socket]
                )
                for environment, replica in served.items()
            },
            [
                routing.Route(environment, replica.made.recipe.name, [targets[environment]])
                for environment, replica in served.items()
            ],
        )

    def serving(self, replica: Replica, environment: str = ENVIRONMENT) -> Serving:
        """It is the way to a replica through the gateway."""
        return Serving(
            OURS,
            ("127.0.0.1", self.port),
            through_gateway(replica.made, environment),
            [self.program, replica.program],
            replica.ready_seconds,
        )

    def _wait(self, name: str, clusters: Mapping[str, envoy.Json]) -> None:
        def holds(status: gateway.Status) -> bool:
            took = status.versions.get(name) == self.files.version(name)
            return took and all(status.healthy.get(cluster, 0) for cluster in clusters)

        status = self.files.wait(holds, READY_SECONDS)
        if status is None or not holds(status):
            words = self.files.refusal(status) if status else "it does not answer"
            raise NotStarted(f"the gateway does not serve: {words} {self.program.last_words()}")


class Replicas:
    """Starts replicas with the words that the product gives its supervisor."""

    def __init__(self, *, folder: Path, run: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder / "spool", ignore_errors=True)
        (folder / "spool").mkdir(mode=0o711, parents=True)
        self._place = programs.Place(
            configurations=folder / "replicas",
            logs=folder / "logs",
            sockets=run,
            spool=folder / "spool",
            supervisor=run / "no-supervisor.sock",
        )

    def start(
        self, made: models.Made, revision: int, *, workers: int = 1, captures: bool = True
    ) -> Replica:
        """It starts a replica and waits for it. Raises: NotStarted."""
        environment = model_environment(made.recipe, self._folder)
        wanted = _wanted(made, environment, revision, workers)
        account = programs.account(wanted)
        section = programs.section(self._place, ENVIRONMENT, made.recipe.name, wanted, 0, account)
        command = section["command"]
        if not captures:
            command = _uncaptured(command, environment, Path(wanted.bundle_path))
        path = self._place.socket(revision, 0)
        path.unlink(missing_ok=True)
        log = self._place.logs / f"{made.recipe.name}.r{revision}.log"
        program = processes.supervised(
            f"replica r{revision}", command, str(path.with_suffix("")), log
        )
        try:
            took = program.wait_ready(lambda: _is_ready(path))
        except BaseException:
            program.stop()
            raise
        return Replica(made, revision, program, path, took)


def through_gateway(made: models.Made, environment: str) -> list[Questions]:
    """The protocols that the gateway offers."""
    name, rows = made.recipe.name, made.rows
    return [
        questions.v1_instances(f"/{environment}/v1/models/{name}:predict", rows),
        questions.v2_matrix(f"/{environment}/v2/models/{name}/infer", rows),
        questions.scoring_split(
            f"/{environment}/endpoints/{name}/invocations", rows, models.COLUMNS
        ),
    ]


def direct(made: models.Made) -> list[Questions]:
    """The same protocols at a replica's own socket."""
    name, rows = made.recipe.name, made.rows
    return [
        questions.v1_instances(f"/v1/models/{name}:predict", rows),
        questions.v2_matrix(f"/v2/models/{name}/infer", rows),
        questions.scoring_split("/invocations", rows, models.COLUMNS),
    ]


def model_environment(recipe: models.Recipe, folder: Path) -> Path:
    """It gives the environment of a model alone: its packages and the model server's."""
    packages = (*recipe.requirements, *models.server_requirements())
    return environments.made(folder / "environments" / f"model-{recipe.flavor}", packages)


def _wanted(made: models.Made, environment: Path, revision: int, workers: int) -> WantedRevision:
    digest = json.loads((made.bundle / "bundle.json").read_bytes())["digest"]
    running = Running(workers=workers)
    return WantedRevision(
        revision, 1, digest, str(made.bundle), str(environment), 1, running=running
    )


def _uncaptured(command: str, environment: Path, bundle: Path) -> str:
    """It turns the capture off: by the server's own switch, where it has one."""
    options = subprocess.run(
        [environment / "bin" / "python", "-P", "-m", "model_server", "serve", "--help"],
        env={"PYTHONPATH": str(bundle / "server"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    line = shlex.split(command.replace("%%", "%"))
    spec: dict[str, Any] = json.loads(line[-1])
    argv: list[str] = spec["argv"]
    if "--capture-share" in options:
        argv += ["--capture-share", "0"]
    else:
        module = argv.index("-m")
        argv[module : module + 2] = ["-c", NOT_CAPTURED]
    return shlex.join([*line[:-1], json.dumps(spec)]).replace("%", "%%")


def _is_ready(path: Path) -> bool:
    answer = unix.get(path, "/ready", timeout_seconds=2)
    return answer is not None and answer[0] == 200
