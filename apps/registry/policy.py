"""A model's whole deployment policy: one YAML document, checked here, read by every app above.

Pure: no database. Each app reads its own part from the completed document that `parse` returns.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from apps.core.errors import Refused
from apps.registry.monitors_policy import Monitors
from apps.registry.serving_policy import Part, Serving, Words

HIGHER_IS_BETTER = ("roc_auc", "accuracy", "f1", "precision", "recall", "average_precision", "r2")
LOWER_IS_BETTER = ("log_loss", "brier", "mae", "rmse")
Metric = Literal[
    "roc_auc", "accuracy", "f1", "precision", "recall", "average_precision", "r2",
    "log_loss", "brier", "mae", "rmse",
]  # fmt: skip


class PolicyRefused(Refused):
    code = "policy_invalid"


EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]


class MetricThreshold(Part):
    """The metric on the holdout must be at least (or at most) so much."""

    gate: Literal["metric_threshold"]
    metric: Metric
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _has_a_limit(self) -> "MetricThreshold":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        return self


class MetricComparison(Part):
    """On the same rows it may not be worse than what serves now by more than the tolerance."""

    gate: Literal["metric_comparison"]
    metric: Metric
    tolerance: Annotated[float, Field(ge=0)] = 0.0


class SchemaCompatible(Part):
    """Callers of what serves now may not have to change anything."""

    gate: Literal["schema_compatible"]


Gate = Annotated[MetricThreshold | MetricComparison | SchemaCompatible, Field(discriminator="gate")]


class Approvals(Part):
    required: Annotated[int, Field(ge=0, le=5)] = 1
    requester_may_approve: bool = False
    expires_after_hours: Annotated[float, Field(gt=0, le=8760)] = 168


class Step(Part):
    weight: Annotated[
        float, Field(ge=0, le=100, description="percent of traffic, counted in tenths")
    ]
    shadow: Annotated[
        float, Field(ge=0, le=100, description="percent of requests copied to the candidate")
    ] = 0
    hold_seconds: Annotated[float, Field(ge=0, le=604_800)] = 300
    analysis: bool = True

    @property
    def weight_permille(self) -> int:
        return round(self.weight * 10)

    @property
    def shadow_permille(self) -> int:
        return round(self.shadow * 10)

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> "Step":
        if self.shadow and self.weight:
            raise ValueError("a step has a weight or a shadow share; shadow steps have weight 0")
        if 0 < self.weight < 0.1:
            raise ValueError("weights are counted in tenths of a percent")
        if not self.weight and not self.shadow and self.analysis:
            raise ValueError("at weight 0 nothing is asked: give it a shadow share, or no analysis")
        return self


class Tolerances(Part):
    """How much worse than the stable revision the candidate may be before it is taken back."""

    min_requests: Annotated[int, Field(ge=1)] = 100
    error_rate_difference: Annotated[float, Field(ge=0, le=1)] = 0.005
    latency_ratio: Annotated[float, Field(ge=1)] = 1.5
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.01


class RolloutPlan(Part):
    steps: Annotated[list[Step], Field(min_length=1, max_length=20)] = Field(
        default=[Step(weight=10), Step(weight=50), Step(weight=100)]
    )
    tolerances: Tolerances = Tolerances()
    prepare_timeout_seconds: Annotated[float, Field(gt=0, le=7200)] = 300

    @model_validator(mode="after")
    def _climbs_to_all(self) -> "RolloutPlan":
        reached = [(step.weight_permille, step.shadow_permille) for step in self.steps]
        if reached != sorted(set(reached)):
            raise ValueError("each step's share must be larger than the one before")
        weights = [weight for weight, _ in reached]
        if weights[-1] != 1000:
            raise ValueError("the last step must carry 100 percent")
        return self


class EnvironmentPolicy(Part):
    enter: Literal["automatic", "on_request"] = "on_request"
    after: EnvironmentName | None = Field(
        default=None, description="must have served in this one before"
    )
    gates: list[Gate] = Field(default=[])
    approvals: Approvals = Approvals()
    rollout: RolloutPlan = RolloutPlan()
    serving: Serving = Serving()
    monitors: Monitors = Monitors()


class Document(Part):
    """version 1 of the policy document."""

    version: Literal[1] = 1
    holdout: Words | None = Field(default=None, description="name of the holdout Dataset")
    positive_class: Words | None = Field(
        default=None, description="which label the score speaks of"
    )
    environments: dict[EnvironmentName, EnvironmentPolicy] = Field(default={})

    @model_validator(mode="after")
    def _holds_together(self) -> "Document":
        for name, environment in self.environments.items():
            if environment.after is not None and environment.after not in self.environments:
                raise ValueError(
                    f"{name}: `after` names {environment.after}, which is not among `environments`"
                )
            needs = [g.gate for g in environment.gates if g.gate != "schema_compatible"]
            if needs and not self.holdout:
                raise ValueError(
                    f"{name}: gate {needs[0]} needs `holdout`, the data set to judge on"
                )
        return self


@dataclass(frozen=True)
class Change:
    """One value of a policy that differs between two editions; None: it is not there."""

    path: str
    was: Any
    now: Any


def changes(old: Any, new: Any, path: str = "") -> list[Change]:
    """What differs between two checked documents, one line a value."""
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            change
            for key in sorted({*old, *new})
            for change in changes(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            change
            for place, (one, other) in enumerate(zip(old, new, strict=True))
            for change in changes(one, other, f"{path}.{place}")
        ]
    return [Change(path, old, new)]


def is_about_serving(change: Change) -> bool:
    """It tells whether a change is one that whoever runs the endpoints may make.

    What is never to be written down is no question of running.
    """
    parts = change.path.split(".")
    is_serving = parts[0] == "environments" and parts[2:3] == ["serving"]
    return is_serving and parts[3:5] != ["capture", "redact"]


DEFAULT_TEXT = """\
# Made by the portal when the model was first seen. Edit it on this page or with
# PUT /api/v1/models/<name>/policy
version: 1
environments:
  staging:
    enter: automatic
    gates:
      - gate: schema_compatible
    approvals: {required: 0}
    rollout:
      steps: [{weight: 100, hold_seconds: 0, analysis: false}]
  production:
    enter: on_request
    after: staging
    gates:
      - gate: schema_compatible
    approvals: {required: 1}
    rollout:
      steps:
        - {weight: 10, hold_seconds: 300}
        - {weight: 50, hold_seconds: 300}
        - {weight: 100, hold_seconds: 300}
"""


def parse(text: str) -> Document:
    """It reads a policy, completed with defaults.

    Raises: PolicyRefused with the place of every mistake, in words.
    """
    try:
        raw: Any = yaml.safe_load(text)
    except yaml.YAMLError as broken:
        raise PolicyRefused(f"The policy is not valid YAML: {broken}") from broken
    except ValueError as wrong:  # a value that looks like a date or a number and is none
        raise PolicyRefused(f"The policy holds a value that YAML cannot read: {wrong}") from wrong
    except RecursionError as deep:
        raise PolicyRefused("The policy is nested too deeply") from deep
    if not isinstance(raw, dict):
        raise PolicyRefused("The policy must be a mapping with `version` and `environments`")
    try:
        return Document.model_validate(raw)
    except ValidationError as wrong:
        lines = "; ".join(_line(e["loc"], e["msg"]) for e in wrong.errors())
        raise PolicyRefused(f"The policy has mistakes. {lines}") from wrong


def _line(place: tuple[int | str, ...], mistake: str) -> str:
    """One mistake as a sentence: where, and what; those of the whole document have no place."""
    words = mistake.removeprefix("Value error, ")
    named = ".".join(str(part) if str(part).isprintable() else ascii(part) for part in place)
    return f"{named}: {words}" if named else words


def schema() -> dict[str, Any]:
    """The JSON schema that editors and CI check a policy with."""
    return Document.model_json_schema()


def serving_of(document: dict[str, Any], environment: str) -> Serving:
    """The serving part of a checked document; defaults where it does not know the environment."""
    part = document.get("environments", {}).get(environment, {}).get("serving", {})
    return Serving.model_validate(part)


def frozen_plan(environment: EnvironmentPolicy) -> dict[str, Any]:
    """The rollout part as a rollout keeps it: weights in thousandths."""
    plan = environment.rollout.model_dump(mode="json")
    for kept, step in zip(plan["steps"], environment.rollout.steps, strict=True):
        kept["weight_permille"] = step.weight_permille
        kept["shadow_permille"] = step.shadow_permille
    return plan
