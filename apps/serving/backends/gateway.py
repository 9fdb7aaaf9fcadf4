"""The gateway of this installation: the files it reads, and what its admin socket says it took."""

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apps.serving.backends import envoy, routing, unix

ADMIN_SECONDS = 2.0
ADMIN_BYTES = 16 << 20  # four lines a cluster
POLL_SECONDS = 0.01
KEPT_VERSIONS = 50
ASKED = r"(version_text|update_rejected|membership_healthy|upstream_rq_active|upstream_rq_total)$"
VERSION_OF = {
    "cds.json": "cluster_manager.cds.version_text",
    "lds.json": "listener_manager.lds.version_text",
    "rds.json": f"http.{envoy.STATISTICS}.rds.{envoy.ROUTES}.version_text",
}
REJECTED_OF = {
    "cds.json": "cluster_manager.cds.update_rejected",
    "lds.json": "listener_manager.lds.update_rejected",
    "rds.json": f"http.{envoy.STATISTICS}.rds.{envoy.ROUTES}.update_rejected",
}
WHAT = {"cds.json": "list of replicas", "lds.json": "listener", "rds.json": "routes"}
# route name -> revision -> (thousandths, version number)
Split = Mapping[str, Mapping[int, tuple[int, int]]]


@dataclass(frozen=True)
class Status:
    """What Envoy says of itself."""

    versions: Mapping[str, str] = field(default_factory=dict)  # file -> version it took
    rejected: Mapping[str, int] = field(default_factory=dict)  # file -> how often it refused
    healthy: Mapping[str, int] = field(default_factory=dict)  # cluster -> replicas
    active: Mapping[str, int] = field(default_factory=dict)  # cluster -> requests under way
    total: Mapping[str, int] = field(default_factory=dict)  # cluster -> requests since it counts


class Gateway:
    def __init__(self, *, home: Path, admin: Path, port: int) -> None:
        self.home = home
        self._admin = admin
        self._port = port

    def status(self) -> Status | None:
        """It asks Envoy; None when Envoy does not answer."""
        answer = unix.get(
            self._admin,
            f"/stats?filter={ASKED}",
            timeout_seconds=ADMIN_SECONDS,
            most_bytes=ADMIN_BYTES,
        )
        if answer is None or answer[0] != 200:
            return None
        return _status(answer[1].decode())

    def in_flight(self) -> dict[str, int]:
        """It tells how many requests are under way at each socket; empty: nobody answered."""
        answer = unix.get(
            self._admin, "/clusters", timeout_seconds=ADMIN_SECONDS, most_bytes=ADMIN_BYTES
        )
        if answer is None or answer[0] != 200:
            return {}
        return {path: int(number) for path, number in _ACTIVE.findall(answer[1].decode())}

    def wait(self, holds: Callable[[Status], bool], seconds: float) -> Status | None:
        """It asks until it holds or the time is over, and gives the last answer."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status()
            if status is None or holds(status) or time.monotonic() > deadline:
                return status
            time.sleep(POLL_SECONDS)

    def written(self, name: str) -> envoy.Json:
        return envoy.read(self.home / name)

    def version(self, name: str) -> str:
        return str(self.written(name).get("version_info", ""))

    def clusters(self) -> dict[str, envoy.Json]:
        """The clusters as they stand in the file."""
        return {entry["name"]: entry for entry in self.written("cds.json").get("resources", [])}

    def write_clusters(self, wanted: Mapping[str, envoy.Json], status: Status | None) -> None:
        listed = [wanted[name] for name in sorted(wanted)]
        self._write("cds.json", lambda version: envoy.clusters(version, listed), status)

    def write_routes(self, wanted: Sequence[routing.Route], status: Status | None) -> None:
        in_force = "" if status is None else status.versions.get("rds.json", "")

        def made(version: str) -> envoy.Json:
            self._keep_split(version, wanted, in_force)
            return routing.routes(version, wanted)

        self._write("rds.json", made, status)

    def write_listener(self, status: Status | None) -> None:
        self._write(
            "lds.json",
            lambda version: envoy.listeners(version, port=self._port, home=self.home),
            status,
        )

    def split(self, version: str) -> Split | None:
        """The weights that stood in a version of the routes; None: nobody knows that version."""
        kept = envoy.read(self._splits / f"{version}.json").get("split")
        if kept is None:
            return None
        return {
            route: {int(pk): (weight, number) for pk, (weight, number) in shares.items()}
            for route, shares in kept.items()
        }

    def copies_seen(self, status: Status) -> dict[str, dict[int, int]]:
        """The shadows in force: route name -> revision -> thousandths of all requests."""
        version = status.versions.get("rds.json", "")
        kept = envoy.read(self._splits / f"{version}.json").get("copies", {})
        return {
            route: {int(pk): share for pk, share in shares.items()}
            for route, shares in kept.items()
        }

    def split_seen(self, status: Status | None) -> Split | None:
        """The weights in force: of the routes that Envoy took, not of those that were written."""
        if status is None:
            return None
        version = status.versions.get("rds.json", "")
        return self.split(version) if version else {}

    def refusal(self, status: Status) -> str:
        """Why Envoy works with an older file than the one written; empty when it does not."""
        for name in ("cds.json", "rds.json", "lds.json"):
            if self.version(name) not in ("", "0", status.versions.get(name, "")):
                if status.rejected.get(name, 0):
                    return f"The gateway refused the new {WHAT[name]} and kept the old"
                return f"The gateway has not yet taken the new {WHAT[name]}"
        return ""

    @property
    def _splits(self) -> Path:
        return self.home / "splits"

    def _write(self, name: str, make: Callable[[str], envoy.Json], status: Status | None) -> None:
        old = self.written(name)
        taken = status is None or status.versions.get(name) == old.get("version_info")
        # What Envoy refused or missed is given again; it does not look twice by itself.
        if taken and old and envoy.bare(old) == envoy.bare(make("")):
            return
        # A clock that was set back must not make a version that is older than the last one.
        last = str(old.get("version_info", ""))
        version = str(max(time.time_ns(), int(last) + 1 if last.isdigit() else 0))
        _put(self.home / name, make(version))

    def _keep_split(self, version: str, wanted: Sequence[routing.Route], in_force: str) -> None:
        """It notes what the version means. What is in force stays known however often newer
        versions are refused: without it nobody could tell what callers get."""
        if not version:
            return
        split = {
            route.name: {str(t.revision): [t.weight, t.version] for t in route.targets}
            for route in wanted
        }
        self._splits.mkdir(parents=True, exist_ok=True)
        # Before the routes themselves: Envoy may take those before this process goes on.
        copies = {
            route.name: {str(copy.revision): copy.share for copy in route.copies}
            for route in wanted
            if route.copies
        }
        _put(self._splits / f"{version}.json", {"split": split, "copies": copies})
        for old in sorted(self._splits.glob("*.json"))[:-KEPT_VERSIONS]:
            if old.stem not in (version, in_force):
                old.unlink(missing_ok=True)


def _put(path: Path, document: envoy.Json) -> None:
    """It writes the whole file and renames it: Envoy must never read half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        json.dump(document, file, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


_CLUSTER = re.compile(
    r"cluster\.(.+\.r\d+)\.(membership_healthy|upstream_rq_active|upstream_rq_total)"
)
# One socket is in one cluster only, named for its revision.
_ACTIVE = re.compile(r"^[^\n]+\.r\d+::(/[^\n]+)::rq_active::(\d+)$", re.MULTILINE)


def _status(text: str) -> Status:
    values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    counted: dict[str, dict[str, int]] = {}
    for name, value in values.items():
        found = _CLUSTER.fullmatch(name)
        if found:
            counted.setdefault(found[2], {})[found[1]] = int(value)
    return Status(
        {file: values[stat].strip('"') for file, stat in VERSION_OF.items() if stat in values},
        {file: int(values[stat]) for file, stat in REJECTED_OF.items() if stat in values},
        counted.get("membership_healthy", {}),
        counted.get("upstream_rq_active", {}),
        counted.get("upstream_rq_total", {}),
    )
