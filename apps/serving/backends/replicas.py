"""The replicas of this machine: one supervised, sandboxed process each."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from apps.core import sandbox
from apps.serving.backends import (
    RevisionSight,
    WantedRevision,
    history,
    judging,
    machine,
    programs,
    unix,
)
from apps.serving.backends.history import Past
from apps.serving.backends.supervisord import Down, Process, Supervisor

log = logging.getLogger(__name__)
READY_SECONDS = 3.0
# A replica that predicts answers nothing else meanwhile, so that only one which is silent for
# longer than any request may take is known to hang.
SILENT_SECONDS = 15.0
REASON_CHARACTERS = 600
MOST_ANSWER_BYTES = 64 << 20
Wanted = Mapping[int, tuple[str, str, WantedRevision]]  # revision -> environment, endpoint, what


class Replicas:
    def __init__(
        self,
        place: programs.Place,
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
        self._accounts: dict[tuple[str, str, int], sandbox.Account] = {}
        self._asked_short: dict[int, str] = {}

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

    def indexes(self, revision: WantedRevision) -> range:
        """Its replicas: one more than wanted while they are replaced one by one."""
        return range(revision.replicas + self._surge(revision.id).exists())

    def room_mb(self, running: Mapping[str, Process] | None = None) -> int:
        """It gives the memory that more replicas may take. Raises: Down."""
        free = machine.free_mb() - self._reserve_mb
        if self._most_mb is None:
            return free
        listed = self._supervisor.processes() if running is None else running
        pids = [p.pid for name, p in listed.items() if programs.NAME.fullmatch(name) and p.pid]
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
        names = {
            programs.name_of(pk, i) for pk, (_, _, r) in wanted.items() for i in self.indexes(r)
        }
        added, changed = self._supervisor.reread()
        outdated = set()
        for name in sorted(names & changed):
            if running[name].runs:
                if programs.revision_of(name) in busy:
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
            wanted[programs.revision_of(name)][2].needs_mb
            for name in names & running.keys()
            if running[name].runs and self._past(name).ready_after is None
        )
        self._asked_short = {}
        for name in sorted(names, key=lambda name: (programs.index_of(name), name)):
            idle = name in running and not running[name].runs and running[name].state != "STOPPING"
            if name not in added and not idle:
                continue
            needs = wanted[programs.revision_of(name)][2].needs_mb
            if needs > room:
                free = judging.size(max(room, 0))
                words = f"Another replica needs {judging.size(needs)}, {free} free"
                self._asked_short.setdefault(programs.revision_of(name), words)
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
                if (why := judging.why_renew(revision, one, outdated))
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
            self._supervisor.stop(programs.name_of(revision.id, silent[0]))
        elif not surge.exists():
            surge.touch()
        elif all(one.ready for one in sight.replicas) and reached > revision.replicas:
            index = min(old)
            self._plan(revision.id, index, old[index])
            self._supervisor.stop(programs.name_of(revision.id, index))

    def _end_silent(self, revision: WantedRevision, index: int, seconds: float) -> None:
        name = programs.name_of(revision.id, index)
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
        kept = {programs.name_of(*pair) for pair in keep}
        running = self._supervisor.processes()
        for path in self.place.configurations.glob("*.conf"):
            sections = programs.read(path)
            left = {name: options for name, options in sections.items() if name in kept}
            if left != sections:
                # First the file: a supervisor that starts again must not start it again.
                programs.write(path, left)
        for name, process in running.items():
            if programs.NAME.fullmatch(name) and name not in kept:
                if process.runs:
                    self._supervisor.stop(name)
                elif process.state != "STOPPING":
                    self._supervisor.remove(name)
                    # A server that was killed takes no child with it that left its group.
                    sandbox.end_all(self.place.mark(*programs.pair_of(name)))
        return frozenset(
            int(found[1])
            for name, process in running.items()
            if (found := programs.NAME.fullmatch(name))
            and (process.runs or process.state == "STOPPING")
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
        read_at = self._clock()
        taken = machine.taken(p.pid for p in (running or {}).values() if p.pid)
        seen: dict[int, RevisionSight] = {}
        for revision in wanted:
            asked = [a for (r, _), a in zip(pairs, answers, strict=True) if r.id == revision.id]
            pasts = self._look_back(revision.id, asked, running or {}, remember)
            short = self._asked_short.get(revision.id, "")
            sight = judging.sight(
                revision, asked, running, pasts, short=short, last_words=self._last_words
            )
            replicas = judging.replicas(revision.id, asked, running or {}, pasts, taken, read_at)
            seen[revision.id] = replace(sight, replicas=replicas)
        return seen

    def _ask(self, revision: WantedRevision, index: int) -> judging.Asked:
        path = self.place.socket(revision.id, index)
        return judging.answered(revision, unix.get(path, "/ready", timeout_seconds=READY_SECONDS))

    def _look_back(
        self, revision: int, asked: list[judging.Asked], running: dict[str, Process], remember: bool
    ) -> dict[str, Past]:
        known = self._pasts(revision)
        now = self._clock()
        pasts: dict[str, Past] = {}
        for index, answer in enumerate(asked):
            name = programs.name_of(revision, index)
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
        return self._pasts(programs.revision_of(name)).get(name, Past())

    def _plan(self, revision: int, index: int, why: str) -> None:
        """It notes why a process is ended before it is."""
        pasts, name = self._pasts(revision), programs.name_of(revision, index)
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
            programs.name_of(revision.id, index): programs.section(
                self.place, environment, endpoint, revision, index, account
            )
            for index in self.indexes(revision)
        }
        # What is no longer wanted goes in `stop`, after its traffic.
        programs.write(path, programs.read(path) | new)

    def _account(self, revision: WantedRevision) -> sandbox.Account:
        """Asked once a bundle."""
        asked = (revision.environment_path, revision.bundle_path, revision.owner)
        if asked not in self._accounts:
            self._accounts[asked] = programs.account(revision)
        return self._accounts[asked]
