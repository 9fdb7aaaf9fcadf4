"""Where a version stands and what is next, in one sentence and one action. Pure.

The apps above write the rows this reads (builds, promotions, rollouts); it takes them as plain
values, so that the registry knows their words but not their tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Asked:
    """One promotion of the version, newest first in a list."""

    environment: str
    status: str
    reason: str
    url: str
    served: bool = False  # its rollout brought it to all traffic
    rollout_url: str = ""
    rollout_phase: str = ""
    rollout_reason: str = ""
    rollout_weight: int = 0  # thousandths of the traffic

    @property
    def is_moving(self) -> bool:
        return self.rollout_phase not in ("", "succeeded", "reverted")


@dataclass(frozen=True)
class Next:
    """The one button: a link, or a verb that the page posts."""

    label: str
    kind: Literal["link", "build", "promote"]
    url: str = ""
    environment: str = ""


@dataclass(frozen=True)
class Standing:
    state: str
    sentence: str
    note: str = ""
    next: Next | None = None


def stand(
    *,
    is_gone: bool,
    build_status: str,
    build_reason: str,
    environments: Sequence[str],
    serves_in: Sequence[str],
    asked: Sequence[Asked],
    may_decide: bool,
) -> Standing:
    """It says where a version stands. `environments` in the order a version passes them."""
    if is_gone:
        return Standing("archived", "MLflow no longer has this version; it cannot go further.")
    moving = next((promotion for promotion in asked if promotion.is_moving), None)
    if moving is not None:
        return _moving(moving)
    unbuilt = _unbuilt(build_status, build_reason)
    if unbuilt is not None:
        return unbuilt
    for promotion in asked:
        if promotion.status in ("checking", "waiting", "approved") and not promotion.rollout_phase:
            return _open(promotion, may_decide)
    return _settled(environments, serves_in, asked)


def _moving(promotion: Asked) -> Standing:
    share = f"{promotion.rollout_weight / 10:g} % of traffic"
    return Standing(
        promotion.rollout_phase,
        f"Rolling out to {promotion.environment}: {share}.",
        promotion.rollout_reason,
        Next("See the rollout", "link", promotion.rollout_url),
    )


def _unbuilt(status: str, reason: str) -> Standing | None:
    if status == "succeeded":
        return None
    if status in ("failed", "cancelled"):
        again = Next("Build again", "build")
        return Standing(status, f"Its build {_was(status)}; it cannot go further.", reason, again)
    if status:
        return Standing(status, f"Its build is {status}; gates come after it.", reason)
    return Standing("waiting", "Waiting for its build to be queued.")


def _was(status: str) -> str:
    return "failed" if status == "failed" else "was cancelled"


def _open(promotion: Asked, may_decide: bool) -> Standing:
    where = promotion.environment
    sentences = {
        "checking": f"Its gates for {where} run.",
        "waiting": f"Waiting for approval for {where}.",
        "approved": f"Approved for {where}; the rollout starts when the endpoint is free.",
    }
    label = "Decide" if promotion.status == "waiting" and may_decide else "See the promotion"
    return Standing(
        promotion.status,
        sentences[promotion.status],
        promotion.reason,
        Next(label, "link", promotion.url),
    )


def _settled(
    environments: Sequence[str], serves_in: Sequence[str], asked: Sequence[Asked]
) -> Standing:
    been = {promotion.environment for promotion in asked if promotion.served} | set(serves_in)
    wanted = next((name for name in environments if name not in been), None)
    here = f"Serves in {' and '.join(serves_in)}." if serves_in else ""
    if wanted is None:
        last = environments[-1] if environments else ""
        if serves_in or not last:
            return Standing("serving" if here else "built", here or "Built.")
        words = f"Served in {', '.join(sorted(been))} before; another version does now."
        return Standing("built", words, "", Next(f"Promote to {last} again", "promote", "", last))
    before = next((promotion for promotion in asked if promotion.environment == wanted), None)
    state = "serving" if serves_in else "built"
    if before is None:
        sentence = f"{here or 'Built.'} Next is {wanted}."
        action = Next(f"Request promotion to {wanted}", "promote", "", wanted)
        return Standing(state, sentence, "", action)
    again = Next(f"Request promotion to {wanted} again", "promote", "", wanted)
    if before.rollout_phase == "reverted":
        told = f"Rolled back in {wanted}."
        return Standing("reverted", f"{told} {here}".strip(), before.rollout_reason, again)
    told = f"Its promotion to {wanted} was {before.status}."
    return Standing(before.status, f"{told} {here}".strip(), before.reason, again)
