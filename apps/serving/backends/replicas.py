"""The replicas of this machine: one supervised, sandboxed process each."""

import configparser
import json
import logging
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from apps.core import sandbox
from apps.serving.backends import RevisionSight, WantedRevision, unix
from apps.serving.backends.supervisord import Down, Process, Supervisor
from apps.serving.lifecycle import RevisionState

log = logging.getLogger(__name__)
READY_SECONDS = 3.0
DRAIN_SECONDS = 25  # a little more than the model server takes to finish what is under way
# A process that ends sooner is tried again after 1, 2, 3 … s, so that a broken model does not
# keep a processor busy with loading.
SETTLED_SECONDS = 10
FAILED_STARTS = 2  # one end is an accident (killed), a second without an answer is a habit
NAME = re.compile(r"r(\d+)\.(\d+)")
REASON_CHARACTERS = 600


@dataclass(frozen=True)
class Place:
    """Where replicas live on this machine."""

    configurations: Path
    logs: Path
    sockets: Path
    spool: Path
    supervisor: Path


@dataclass(frozen=True)
class Asked:
    """What one replica answered to /ready."""

    ready: bool
    wrong: str = ""  # it answers, but is not what should run


def name_of(revision: int, index: int) -> str:
    return f"r{revision}.{index}"


class Replicas:
    def __init__(self, place: Place, limits: sandbox.Limits) -> None:
        self.place = place
        self._limits = limits
        self._supervisor = Supervisor(place.supervisor)
        self._accounts: dict[tuple[Path, Path, int], sandbox.Account] = {}

    def socket(self, revision: int, index: int) -> Path:
        return self.place.sockets / f"r{revision}" / f"{index}.sock"

    def start(self, wanted: Mapping[int, tuple[str, str, WantedRevision]], busy: set[int]) -> None:
        """It starts what should run. Replicas of `busy` revisions are never started anew.

        `wanted`: revision -> (environment, endpoint, what). Raises: Down.
        """
        self.place.configurations.mkdir(parents=True, exist_ok=True)
        self.place.logs.mkdir(parents=True, exist_ok=True)
        # Models pass through to what is theirs; the launcher's own mask would shut them out.
        self.place.spool.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.place.spool.chmod(0o711)
        running = self._supervisor.processes()
        for environment, endpoint, revision in wanted.values():
            self._configure(environment, endpoint, revision)
        names = {name_of(pk, i) for pk, (_, _, r) in wanted.items() for i in range(r.replicas)}
        serving = {name for name in names if int(name[1:].partition(".")[0]) in busy}
        added, changed = self._supervisor.reread()
        for name in sorted(names & added):
            self._supervisor.add(name)
        for name in sorted(names & changed):
            if name in serving and running[name].runs:
                continue  # other words are no reason to end it; they count from its next start
            if running[name].runs or running[name].state == "STOPPING":
                self._supervisor.stop(name)  # and is started as it should be at the next look
            else:
                self._supervisor.remove(name)
                self._supervisor.add(name)
        for name in sorted((names - changed) & running.keys()):
            if not running[name].runs and running[name].state != "STOPPING":
                self._supervisor.start(name)

    def stop(self, keep: Iterable[tuple[int, int]]) -> frozenset[int]:
        """It ends every replica but those of `keep` (revision, index).

        Gives the revisions of which something still runs. Raises: Down.
        """
        kept = {name_of(*pair) for pair in keep}
        running = self._supervisor.processes()
        for path in self.place.configurations.glob("*.conf"):
            sections = _sections(path)
            left = {name: options for name, options in sections.items() if name in kept}
            if left != sections:
                # First the file: a supervisor that starts again must not start it again.
                _put(path, left)
        for name, process in running.items():
            if NAME.fullmatch(name) and name not in kept:
                if process.runs:
                    self._supervisor.stop(name)
                elif process.state != "STOPPING":
                    self._supervisor.remove(name)
        return frozenset(
            int(found[1])
            for name, process in running.items()
            if (found := NAME.fullmatch(name)) and (process.runs or process.state == "STOPPING")
        )

    def sights(
        self, wanted: Sequence[WantedRevision], *, remember: bool
    ) -> dict[int, RevisionSight]:
        """It asks every replica whether it is ready, and the supervisor about those that are not.

        `remember` keeps the count of failed starts; only one process at a time may do that.
        """
        pairs = [(revision, i) for revision in wanted for i in range(revision.replicas)]
        with ThreadPoolExecutor(max_workers=8) as pool:
            answers = list(pool.map(lambda pair: self._ask(*pair), pairs))
        try:
            running: dict[str, Process] | None = self._supervisor.processes()
        except Down:
            running = None
        seen: dict[int, RevisionSight] = {}
        for revision in wanted:
            asked = [a for (r, _), a in zip(pairs, answers, strict=True) if r.id == revision.id]
            seen[revision.id] = self._judge(revision, asked, running, remember)
        return seen

    def _ask(self, revision: WantedRevision, index: int) -> Asked:
        path = self.socket(revision.id, index)
        answer = unix.get(path, "/ready", timeout_seconds=READY_SECONDS)
        if answer is None or answer[0] != 200:
            return Asked(ready=False)
        try:
            said = json.loads(answer[1])
            digest, number = str(said["digest"]), str(said["revision"])
        except (ValueError, TypeError, KeyError):
            return Asked(ready=False, wrong="it does not say what it serves")
        if number != str(revision.id) or digest != revision.digest:
            return Asked(
                ready=False,
                wrong=f"it serves revision {number} with digest {digest}, wanted is {revision.id} "
                f"with {revision.digest}",
            )
        return Asked(ready=True)

    def _judge(
        self,
        revision: WantedRevision,
        asked: list[Asked],
        running: dict[str, Process] | None,
        remember: bool,
    ) -> RevisionSight:
        ready = sum(answer.ready for answer in asked)
        failures = self._failures(revision.id, asked, running or {}, remember)
        if ready == len(asked):
            return RevisionSight(RevisionState.READY, ready)
        wrong = next((answer.wrong for answer in asked if answer.wrong), "")
        if wrong:
            return RevisionSight(RevisionState.FAILING, ready, f"A replica answers, but {wrong}")
        if running is None:
            return RevisionSight(RevisionState.UNKNOWN, ready, "The supervisor does not answer")
        for index, answer in enumerate(asked):
            name = name_of(revision.id, index)
            process = running.get(name)
            if answer.ready or process is None:
                continue
            if process.state == "FATAL" or failures.get(name, 0) >= FAILED_STARTS:
                reason = process.problem or self._last_words(name) or "It said nothing"
                state = RevisionState.DEGRADED if ready else RevisionState.FAILING
                return RevisionSight(state, ready, f"Replica {index} keeps ending: {reason}")
        if ready:
            reason = f"{ready} of {len(asked)} replicas are ready"
            return RevisionSight(RevisionState.DEGRADED, ready, reason)
        return RevisionSight(RevisionState.STARTING, 0, "Its replicas load the model")

    def _failures(
        self, revision: int, asked: list[Asked], running: dict[str, Process], remember: bool
    ) -> dict[str, int]:
        """How often each replica was started since it last answered."""
        path = self.place.configurations / f"{revision}.starts.json"
        try:
            known: dict[str, list[int]] = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            known = {}
        now: dict[str, list[int]] = {}
        for index, answer in enumerate(asked):
            name = name_of(revision, index)
            if name not in running:
                continue
            started = running[name].started
            before, count = known.get(name, [started, 0])
            if answer.ready:
                count = 0
            elif started != before:
                count += 1
            now[name] = [started, count]
        if remember and now != known:
            path.write_text(json.dumps(now))
        return {name: count for name, (_, count) in now.items()}

    def _last_words(self, name: str) -> str:
        """The end of its log: the model server reports what went wrong as one JSON line."""
        try:
            with (self.place.logs / f"{name}.log").open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - 8192))
                lines = file.read().decode("utf-8", "replace").strip().splitlines()
        except FileNotFoundError:
            return ""
        for line in reversed(lines):
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if isinstance(said, dict) and (words := said.get("error") or said.get("message")):
                return f"{said.get('event', '')}: {words}".strip(": ")[:REASON_CHARACTERS]
        return " | ".join(lines[-3:])[-REASON_CHARACTERS:]

    def _configure(self, environment: str, endpoint: str, revision: WantedRevision) -> None:
        path = self.place.configurations / f"{revision.id}.conf"
        account = self._account(revision)
        new = {
            name_of(revision.id, index): self._section(
                environment, endpoint, revision, index, account
            )
            for index in range(revision.replicas)
        }
        # What is no longer wanted goes in `stop`, after its traffic.
        _put(path, _sections(path) | new)

    def _account(self, revision: WantedRevision) -> sandbox.Account:
        """Asked once a bundle: the answer costs the start of an interpreter."""
        python = Path(revision.environment_path) / "bin/python"
        card = Path(revision.bundle_path) / "bundle.json"
        asked = (python, card, revision.owner)
        if asked not in self._accounts:
            self._accounts[asked] = sandbox.account_for(python, owner=revision.owner, reads=[card])
        return self._accounts[asked]

    def _section(
        self,
        environment: str,
        endpoint: str,
        revision: WantedRevision,
        index: int,
        account: sandbox.Account,
    ) -> dict[str, str]:
        bundle = Path(revision.bundle_path)
        python = Path(revision.environment_path) / "bin/python"
        socket = self.socket(revision.id, index)
        spool = self.place.spool / str(revision.id)
        argv = [str(python), "-P", "-m", "model_server", "serve", "--bundle", str(bundle)]
        argv += ["--socket", str(socket), "--endpoint", endpoint, "--environment", environment]
        argv += ["--revision", str(revision.id), "--version", str(revision.version)]
        argv += ["--spool", str(spool), "--replica", str(index)]
        env = {
            "PYTHONPATH": str(bundle / "server"),
            "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(socket.parent),
            "TMPDIR": str(socket.parent),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # a bundle never changes
            # More replicas use more processors; a model that takes all would slow the others.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }
        line = sandbox.command(
            argv, env=env, limits=self._limits, cwd=bundle, account=account,
            reads=[*sandbox.read_by(python), bundle], writes=[socket.parent, spool],
            mark=str(socket.with_suffix("")),
        )  # fmt: skip
        return {
            "command": shlex.join(line).replace("%", "%%"),
            "autostart": "true",
            "autorestart": "true",
            "startsecs": str(SETTLED_SECONDS),
            "startretries": "1000000",
            "stopsignal": "TERM",
            "stopwaitsecs": str(DRAIN_SECONDS),
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": str(self.place.logs / f"{name_of(revision.id, index)}.log"),
            "stdout_logfile_maxbytes": "5MB",
            "stdout_logfile_backups": "2",
        }


def _sections(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text())
    except (FileNotFoundError, configparser.Error):
        return {}
    return {name.removeprefix("program:"): dict(parser[name]) for name in parser.sections()}


def _put(path: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    if not sections:
        path.unlink(missing_ok=True)
        path.with_name(f"{path.stem}.starts.json").unlink(missing_ok=True)
        return
    parser = configparser.RawConfigParser()
    for name, options in sections.items():
        parser[f"program:{name}"] = options
    text = StringIO()
    parser.write(text)
    if path.exists() and path.read_text() == text.getvalue():
        return
    temporary = path.with_suffix(".new")
    temporary.write_text(text.getvalue())
    temporary.rename(path)
