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


@dataclass(frozen=True)
class WantedRevision:
    """One revision that should run."""

    id: int
    version: int
    digest: str  # of the bundle; a replica that reports another one is not ready
    bundle_path: str
    environment_path: str
    replicas: int
    key: str = ""  # the value of x-force-revision that opens it past the split; "": nothing does
    owner: int = 0  # the model: processes of one owner share an account, those of two do not


@dataclass(frozen=True)
class WantedEndpoint:
    """One endpoint as people and rollouts want it."""

    id: int
    environment: str
    name: str
    traffic: Mapping[int, int]  # revision -> thousandths; empty: no traffic
    stable: int | None
    revisions: Sequence[WantedRevision]  # those that should run

    @property
    def route(self) -> str:
        return f"{self.environment}/{self.name}"


@dataclass(frozen=True)
class RevisionSight:
    state: RevisionState
    ready: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """What a backend saw. `traffic` None: what splits the traffic did not answer."""

    traffic: Mapping[int, Mapping[int, int]] | None  # endpoint -> revision -> thousandths
    revisions: Mapping[int, RevisionSight] = field(default_factory=dict)
    problem: str = ""  # why it could not do what is wanted, for people
    waiting: Mapping[int, str] = field(default_factory=dict)  # endpoint -> what it waits for
    leaving: frozenset[int] | None = None  # revisions nobody wants that still run; None: unknown


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


@cache
def load(alias: str) -> Backend:
    """It makes the backend of an alias.

    Raises: KeyError when settings name no such backend.
    """
    named: Mapping[str, Mapping[str, Any]] = settings.SERVING_BACKENDS
    entry = named[alias]
    backend: Backend = import_string(entry["BACKEND"])(**entry.get("OPTIONS", {}))
    return backend
