"""The replicas of this machine: one supervised, sandboxed process each."""

import configparser
import json
import logging
import re
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

from django.conf import settings

from apps.core import sandbox
from apps.serving.backends import (
    ReplicaSight,
    RevisionSight,
    Running,
    WantedRevision,
    history,
    machine,
    unix,
)
from apps.serving.backends.history import Past
from apps.serving.backends.supervisord import Down, Process, Supervisor
from apps.serving.lifecycle import RevisionState

log = logging.getLogger(__name__)
READY_SECONDS = 3.0
DRAIN_SECONDS = 25  # a little more than the model server takes to finish what is under way
# A process that ends sooner is tried again after 1, 2, 3 … s, so that a broken model does not
# keep a processor busy with loading.
SETTLED_SECONDS = 10
FAILED_STARTS = 2  # one end is an accident (killed), a second without an answer is a habit
# A replica that predicts answers nothing else meanwhile, so that only one which is silent for
# longer than any request may take is known to hang.
SILENT_SECONDS = 15.0
NAME = re.compile(r"r(\d+)\.(\d+)")
REASON_CHARACTERS = 600
MOST_ANSWER_BYTES = 64 << 20
Wanted = Mapping[int, tuple[str, str, WantedRevision]]  # revision -> environment, endpoint, what


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
    in_flight: int | None = None


def name_of(revision: int, index: int) -> str:
    return f"r{revision}.{index}"


class Replicas:
    def __init__(
        self,
        place: Place,
        *,
        most_mb: int | None = None,
        reserve_mb: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.place = place
        self._most_mb = most_mb  # for all replicas together; None: what the machine has
        self._reserve_mb = reserve_mb  # of the machine's memory, for everything else
        self._clock = clock
        self._supervisor = Supervisor(place.supervisor)
        self._accounts: dict[tuple[Path, Path, int], sandbox.Account] = {}
        self._asked_short: dict[int, str] = {}

    def socket(self, revision: int, index: int) -> Path:
        return self.place.sockets / f"r{revision}" / f"{index}.sock"

    def copy(
        self, revision: int, path: str, body: bytes, *, request_id: str, timeout_seconds: float
    ) -> tuple[int, bytes] | None:
        """It sends a copy of a request to the first replica that answers."""
        headers = {
            "content-type": "application/json",
            "x-request-id": request_id,
            "x-shadow": "1",
        }
        for socket in sorted((self.place.sockets / f"r{revision}").glob("*.sock")):
            answer = unix.post(
                socket, path, body, headers, timeout_seconds=timeout_seconds,
                most_bytes=MOST_ANSWER_BYTES,
            )  # fmt: skip
            if answer is not None:
                return answer
        return None

    def _mark(self, revision: int, index: int) -> str:
        return str(self.socket(revision, index).with_suffix(""))

    def indexes(self, revision: WantedRevision) -> range:
        """Its replicas: one more than wanted while they are replaced one by one."""
        return range(revision.replicas + self._surge(revision.id).exists())

    def room_mb(self, running: Mapping[str, Process] | None = None) -> int:
        """It gives the memory that more replicas may take. Raises: Down."""
        free = machine.free_mb() - self._reserve_mb
        if self._most_mb is None:
            return free
        listed = self._supervisor.processes() if running is None else running
        pids = [p.pid for name, p in listed.items() if NAME.fullmatch(name) and p.pid]
        return min(free, self._most_mb - sum(machine.memory_mb(pids).values()))

    def start(self, wanted: Wanted, busy: set[int]) -> set[str]:
        """It starts what should run, as far as there is room.

        Gives the names of those that serve and run with other words than are wanted now: they are
        not ended here but in `renew`, one by one. Raises: Down.
        """
        self.place.configurations.mkdir(parents=True, exist_ok=True)
        self.place.logs.mkdir(parents=True, exist_ok=True)
        # Models pass through to what is theirs; the launcher's own mask would shut them out.
        self.place.spool.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.place.spool.chmod(0o711)
        running = self._supervisor.processes()
        for environment, endpoint, revision in wanted.values():
            self._configure(environment, endpoint, revision)
        names = {name_of(pk, i) for pk, (_, _, r) in wanted.items() for i in self.indexes(r)}
        added, changed = self._supervisor.reread()
        outdated = set()
        for name in sorted(names & changed):
            if running[name].runs:
                if _revision(name) in busy:
                    outdated.add(name)
                else:
                    self._supervisor.stop(name)  # and is started as it should be next time
            elif running[name].state != "STOPPING":
                self._supervisor.remove(name)
                added.add(name)
        self._start_within(wanted, names, added, running)
        return outdated

    def _start_within(
        self, wanted: Wanted, names: set[str], added: set[str], running: Mapping[str, Process]
    ) -> None:
        """It starts one after the other until the memory that is left is too little."""
        # Those that load have not yet taken what they will take.
        room = self.room_mb(running) - sum(
            wanted[_revision(name)][2].needs_mb
            for name in names & running.keys()
            if running[name].runs and self._past(name).ready_after is None
        )
        self._asked_short = {}
        for name in sorted(names, key=lambda name: (_index(name), name)):
            idle = name in running and not running[name].runs and running[name].state != "STOPPING"
            if name not in added and not idle:
                continue
            needs = wanted[_revision(name)][2].needs_mb
            if needs > room:
                words = f"Another replica needs {size(needs)}, {size(max(room, 0))} free"
                self._asked_short.setdefault(_revision(name), words)
                continue
            room -= needs
            if name in added:
                self._supervisor.add(name)
            else:
                self._supervisor.start(name)

    def renew(
        self,
        wanted: Sequence[WantedRevision],
        sights: Mapping[int, RevisionSight],
        outdated: set[str],
        reached: Mapping[int, int],
        silent_seconds: Mapping[int, float],
    ) -> None:
        """It replaces replicas one by one, with one more than wanted meanwhile, so that there are
        never fewer: those with other words than are wanted, and those that took too much memory.
        Those that hang are killed.

        `reached`: revision -> replicas that what splits the traffic reaches. Raises: Down.
        """
        for revision in wanted:
            sight = sights[revision.id]
            for one in sight.replicas:
                self._end_silent(revision, one.index, silent_seconds.get(revision.id, 30.0))
            old = {
                one.index: why
                for one in sight.replicas
                if (why := _why_renew(revision, one, outdated))
            }
            self._renew(revision, sight, old, reached.get(revision.id, 0))

    def _renew(
        self, revision: WantedRevision, sight: RevisionSight, old: dict[int, str], reached: int
    ) -> None:
        surge = self._surge(revision.id)
        # The one more is never itself replaced: it ends with the others' renewal.
        old = {index: why for index, why in old.items() if index < revision.replicas}
        usual = [one for one in sight.replicas if one.index < revision.replicas]
        if not old:
            if surge.exists() and all(one.ready for one in usual):
                surge.unlink()
            return
        silent = [one.index for one in usual if one.index in old and not one.ready]
        if silent:
            self._plan(revision.id, silent[0], old[silent[0]])
            self._supervisor.stop(name_of(revision.id, silent[0]))
        elif not surge.exists():
            surge.touch()
        elif all(one.ready for one in sight.replicas) and reached > revision.replicas:
            index = min(old)
            self._plan(revision.id, index, old[index])
            self._supervisor.stop(name_of(revision.id, index))

    def _end_silent(self, revision: WantedRevision, index: int, seconds: float) -> None:
        name = name_of(revision.id, index)
        since = self._past(name).silent_since
        if since is not None and self._clock() - since > seconds + SILENT_SECONDS:
            words = f"It did not answer for {self._clock() - since:.0f} s and was killed"
            self._plan(revision.id, index, words)
            self._supervisor.kill(name)

    def _surge(self, revision: int) -> Path:
        return self.place.configurations / f"{revision}.surge"

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
                    # A server that was killed takes no child with it that left its group.
                    sandbox.end_all(self._mark(*_pair(name)))
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
        pairs = [(revision, i) for revision in wanted for i in self.indexes(revision)]
        with ThreadPoolExecutor(max_workers=8) as pool:
            answers = list(pool.map(lambda pair: self._ask(*pair), pairs))
        try:
            running: dict[str, Process] | None = self._supervisor.processes()
        except Down:
            running = None
        taken = machine.memory_mb(p.pid for p in (running or {}).values() if p.pid)
        seen: dict[int, RevisionSight] = {}
        for revision in wanted:
            asked = [a for (r, _), a in zip(pairs, answers, strict=True) if r.id == revision.id]
            pasts = self._look_back(revision.id, asked, running or {}, remember)
            sight = self._judge(revision, asked, running, pasts)
            replicas = _replicas(revision.id, asked, running or {}, pasts, taken)
            seen[revision.id] = replace(sight, replicas=replicas)
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
        in_flight = said.get("in_flight")
        return Asked(ready=True, in_flight=in_flight if type(in_flight) is int else None)

    def _judge(
        self,
        revision: WantedRevision,
        asked: list[Asked],
        running: dict[str, Process] | None,
        pasts: Mapping[str, Past],
    ) -> RevisionSight:
        ready = sum(answer.ready for answer in asked)
        if not revision.replicas:
            return RevisionSight(RevisionState.ASLEEP)
        if ready >= revision.replicas:
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
            failed = pasts[name].failed if name in pasts else 0
            if process.state == "FATAL" or failed >= FAILED_STARTS:
                reason = process.problem or self._last_words(name) or "It said nothing"
                state = RevisionState.DEGRADED if ready else RevisionState.FAILING
                return RevisionSight(state, ready, f"Replica {index} keeps ending: {reason}")
        short = self._asked_short.get(revision.id, "")
        if ready:
            reason = short or f"{ready} of {revision.replicas} replicas are ready"
            return RevisionSight(RevisionState.DEGRADED, ready, reason)
        return RevisionSight(RevisionState.STARTING, 0, short or "Its replicas load the model")

    def _look_back(
        self, revision: int, asked: list[Asked], running: dict[str, Process], remember: bool
    ) -> dict[str, Past]:
        known = self._pasts(revision)
        now = self._clock()
        pasts: dict[str, Past] = {}
        for index, answer in enumerate(asked):
            name = name_of(revision, index)
            if name not in running:
                continue
            before, started = known.get(name), float(running[name].started)
            ended = before is not None and started != before.started
            words = self._last_words(name) if ended else ""
            pasts[name] = history.looked(
                before, started=started, ready=answer.ready, now=now, words=words
            )
        if remember and pasts != known:
            self._keep(revision, pasts)
        return pasts

    def _past(self, name: str) -> Past:
        return self._pasts(_revision(name)).get(name, Past())

    def _plan(self, revision: int, index: int, why: str) -> None:
        """It notes why a process is ended before it is."""
        pasts, name = self._pasts(revision), name_of(revision, index)
        pasts[name] = replace(pasts.get(name, Past()), planned=why)
        self._keep(revision, pasts)

    def _pasts(self, revision: int) -> dict[str, Past]:
        path = self.place.configurations / f"{revision}.starts.json"
        try:
            return history.read(json.loads(path.read_bytes()))
        except (FileNotFoundError, ValueError):
            return {}

    def _keep(self, revision: int, pasts: dict[str, Past]) -> None:
        path = self.place.configurations / f"{revision}.starts.json"
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(history.written(pasts)))
        temporary.rename(path)

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
        # Events of a server that was well are no words of somebody who ends.
        plain = [line for line in lines[-3:] if not line.startswith('{"event"')]
        return " | ".join(plain)[-REASON_CHARACTERS:]

    def _configure(self, environment: str, endpoint: str, revision: WantedRevision) -> None:
        path = self.place.configurations / f"{revision.id}.conf"
        account = self._account(revision)
        new = {
            name_of(revision.id, index): self._section(
                environment, endpoint, revision, index, account
            )
            for index in self.indexes(revision)
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
        argv += ["--spool", str(spool), "--replica", str(index), *_options(revision.running)]
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
        if revision.runtime == "url":
            env["PORTAL_REMOTE_SERVERS"] = ",".join(settings.REMOTE_SERVERS)
        line = sandbox.command(
            argv, env=env, limits=_limits(revision), cwd=bundle, account=account,
            reads=[*sandbox.read_by(python), bundle], writes=[socket.parent, spool],
            mark=self._mark(revision.id, index),
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


def _options(running: Running) -> list[str]:
    """What differs from how the server runs by itself."""
    options = []
    if running.workers > 1:
        options += ["--workers", str(running.workers)]
    if running.batch_rows:
        options += ["--batch-rows", str(running.batch_rows)]
        options += ["--batch-wait-ms", f"{running.batch_wait_ms:g}"]
    if running.body_bytes != Running.body_bytes:
        options += ["--max-body-bytes", str(running.body_bytes)]
    if running.capture_share < 1:
        options += ["--capture-share", f"{running.capture_share:g}"]
    # One argument each: a column may be called like an option.
    return options + [f"--redact={column}" for column in running.redact]


def _limits(revision: WantedRevision) -> sandbox.Limits:
    """The hard limit, of each process: twice what a replica is replaced at, so that it is warned
    of by a drained restart and not by a request that fails."""
    most_mb = max(4096, 2 * revision.running.memory_mb + 1024)
    limits = sandbox.Limits(
        memory_bytes=most_mb << 20, open_files=8192, processors=revision.running.processors
    )
    # Some languages reserve far more addresses than they ever use.
    return limits.of_data() if revision.runtime == "command" else limits


def _why_renew(revision: WantedRevision, seen: ReplicaSight, outdated: set[str]) -> str:
    if name_of(revision.id, seen.index) in outdated:
        return "It was replaced by one with the new configuration"
    most = revision.running.memory_mb
    if seen.memory_mb is not None and seen.memory_mb > most:
        return f"It took {size(seen.memory_mb)} of memory, more than its {size(most)}"
    return ""


def _replicas(
    revision: int,
    asked: Sequence[Asked],
    running: Mapping[str, Process],
    pasts: Mapping[str, Past],
    taken: Mapping[int, int],
) -> list[ReplicaSight]:
    listed = []
    for index, answer in enumerate(asked):
        name = name_of(revision, index)
        past, process = pasts.get(name, Past()), running.get(name)
        listed.append(
            ReplicaSight(
                index,
                answer.ready,
                past.started,
                past.ready_after,
                past.restarts,
                taken.get(process.pid) if process is not None else None,
                answer.in_flight,
                answer.wrong or past.cause,
            )
        )
    return listed


def _pair(name: str) -> tuple[int, int]:
    revision, _, index = name[1:].partition(".")
    return int(revision), int(index)


def _revision(name: str) -> int:
    return _pair(name)[0]


def _index(name: str) -> int:
    return _pair(name)[1]


def size(megabytes: int) -> str:
    return f"{megabytes / 1024:.1f} GiB" if megabytes >= 1000 else f"{megabytes} MiB"


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
        for left in ("starts.json", "surge"):
            path.with_name(f"{path.stem}.{left}").unlink(missing_ok=True)
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
