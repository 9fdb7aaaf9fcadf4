"""The kinds of rules a policy may hold: one module each, found by the name in the policy.

A new kind is a module here, a line in `load`, and its shape in `registry.policy`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from apps.builds.models import Build
from apps.builds.predictions import Answers
from apps.validation.holdout import Holdout
from apps.validation.lifecycle import Verdict

MODULES = {
    "metric_threshold": "apps.validation.gates.metric_threshold",
    "metric_comparison": "apps.validation.gates.metric_comparison",
    "schema_compatible": "apps.validation.gates.schema_compatible",
}


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    summary: str  # one sentence with the figures
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """Everything a gate may look at. Answers are there only where a gate said it needs them."""

    environment: str
    candidate: Build
    stable: Build | None  # what serves there now
    holdout: Holdout | None
    positive_class: str
    candidate_answers: Answers | None
    stable_answers: Answers | None
    stable_problem: str  # why what serves could not be asked
    tick: Callable[[], None]


class Gate(Protocol):
    """One kind of rule. `rule` is the policy's entry, already checked by `registry.policy`."""

    needs_answers: bool  # of the candidate, on the holdout
    needs_stable_answers: bool

    def title(self, rule: dict[str, Any]) -> str:
        """It says in a few words what the rule asks."""
        ...

    def check(self, rule: dict[str, Any], seen: Seen) -> Outcome:
        """It gives the verdict with its evidence; it calls `seen.tick` when it takes long."""
        ...


def load(name: str) -> Gate:
    """Raises: KeyError that names what there is."""
    if name not in MODULES:
        raise KeyError(f"No gate {name!r}; there are: {', '.join(sorted(MODULES))}")
    gate: Gate = import_module(MODULES[name]).gate
    return gate
