"""What runs models. A backend is told all wishes, makes them true, and says what it sees.

`settings.SERVING_BACKENDS` names them: alias -> {"BACKEND": dotted class, "OPTIONS": {...}}.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from apps.serving.lifecycle import RevisionState


@dataclass(frozen=True)
class Capabilities:
    """What a backend can; a plan is checked against it, nobody asks for the backend's name."""

    split: bool = False  # several revisions share an endpoint's traffic by weight
    sticky: bool = False  # callers with the same x-route-key stay on the same revision
    shadow: bool = False  # a revision gets copies of requests, its answers are thrown away
    forced_revision: bool = False  # a caller who may test chooses the revision
    scale_to_zero: bool = False
    copy: bool = False  # the panel itself sends a revision a copy of a request


@dataclass(frozen=True)
class Running:
    """How each replica of an endpoint runs; another value replaces replicas one by one."""

    memory_mb: int = 4096  # a replica that takes more is replaced
    workers: int = 1  # processes of one replica
    processors: int | None = None  # that one replica may use at once; None: all
    batch_rows: int = 0  # 0: every request alone
    batch_wait_ms: float = 0
    body_bytes: int = 16 << 20
    capture_share: float = 1.0
    redact: Sequence[str] = ()  # columns that are never written


@dataclass(frozen=True)
class WantedRevision:
    """One revision that should run."""

    id: int
    version: int
    digest: str  # of the bundle; a replica that reports another one is not ready
    bundle_path: str
    environment_path: str
    replicas: int  # 0: asleep, the next request starts one
    key: str = ""  # the value of x-force-revision that opens it past the split; "": nothing does
    owner: int = 0  # the model: processes of one owner share an account, those of two do not
    running: Running = Running()
    needs_mb: int = 300  # memory that must be free before another replica starts
    runtime: str = ""  # of the build: what its process is ("onnx", "command", "url"; "": MLflow)


@dataclass(frozen=True)
class WantedEndpoint:
    """One endpoint as people and rollouts want it."""

    id: int
    environment: str
    name: str
    traffic: Mapping[int, int]  # revision -> thousandths; empty: no traffic
    stable: int | None
    revisions: Sequence[WantedRevision]  # those that should run
    shadow: Mapping[int, int] = field(default_factory=dict)  # revision -> thousandths of copies
    request_seconds: float = 30.0
    try_seconds: float = 10.0  # then another replica is asked
    sticky_cookie: bool = False
    body_bytes: int = Running.body_bytes

    @property
    def route(self) -> str:
        return f"{self.environment}/{self.name}"


@dataclass(frozen=True)
class ReplicaSight:
    index: int
    ready: bool
    started: float = 0  # epoch seconds of its last start; 0: never
    start_seconds: float | None = None  # from there until it was seen ready
    restarts: int = 0
    memory_mb: int | None = None
    in_flight: int | None = None  # as what splits the traffic counts it, else as it says itself
    reason: str = ""
    # Of its present process and all that it started, since that began; None: nobody can tell.
    processor_seconds: float | None = None
    read_at: float = 0  # epoch seconds of the figures above; 0: no history of them is kept


@dataclass(frozen=True)
class RevisionSight:
    state: RevisionState
    ready: int = 0
    reason: str = ""
    replicas: Sequence[ReplicaSight] = ()


@dataclass(frozen=True)
class Flow:
    """What goes through a revision now, as what splits the traffic counts it."""

    in_flight: int
    requests: int  # since it counts; begins again at 0 when it restarts


@dataclass(frozen=True)
class Report:
    """What a backend saw. `traffic` None: what splits the traffic did not answer."""

    traffic: Mapping[int, Mapping[int, int]] | None  # endpoint -> revision -> thousandths
    revisions: Mapping[int, RevisionSight] = field(default_factory=dict)
    problem: str = ""  # why it could not do what is wanted, for people
    waiting: Mapping[int, str] = field(default_factory=dict)  # endpoint -> what it waits for
    leaving: frozenset[int] | None = None  # revisions nobody wants that still run; None: unknown
    shadow: Mapping[int, Mapping[int, int]] | None = None  # as traffic


Wishes = Callable[[], Sequence[WantedEndpoint]]


class Backend(Protocol):
    """It makes wishes true. Both calls may be made at any time, by any number of processes."""

    capabilities: Capabilities

    def converge(self, wishes: Wishes) -> Report:
        """It brings what runs closer to the wishes and reports what it then saw.

        `wishes` is called when nobody else converges, so that no older wish overwrites a newer.
        """
        ...

    def look(self, wanted: Sequence[WantedEndpoint]) -> Report:
        """It reports on these endpoints and changes nothing."""
        ...

    def flow(self) -> Mapping[int, Flow] | None:
        """It tells what goes through each revision now; None: nobody answered."""
        ...

    def shortage(self, *, needs_mb: int, replicas: int) -> str:
        """It says in words why so many more replicas have no room; "" when they have."""
        ...

    def copy(
        self, revision: int, path: str, body: bytes, *, request_id: str, timeout_seconds: float
    ) -> tuple[int, bytes] | None:
        """It asks a replica as if the gateway had copied a request to it, and gives the answer.

        The replica records it as a copy; None: no replica gave a whole answer in time.
        """
        ...


@cache
def load(alias: str) -> Backend:
    """It makes the backend of an alias.

    Raises: KeyError when settings name no such backend.
    """
    named: Mapping[str, Mapping[str, Any]] = settings.SERVING_BACKENDS
    entry = named[alias]
    backend: Backend = import_string(entry["BACKEND"])(**entry.get("OPTIONS", {}))
    return backend
