"""Makes decisions true: look, decide, record, act. Safe to run at any time, any number of times."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from apps.core.errors import Unavailable
from apps.monitoring.selectors import requests as monitoring
from apps.rollouts import selectors
from apps.rollouts.analysis import Analysis, Spans, Tolerances, judge
from apps.rollouts.decide import decide
from apps.rollouts.lifecycle import Decision, Phase, Seen, Step, Verdict
from apps.rollouts.models import Rollout
from apps.rollouts.services import rollbacks, settling, steering
from apps.serving.lifecycle import WEIGHT_TOTAL
from apps.serving.services import sights

Clock = Callable[[], datetime]
log = logging.getLogger(__name__)
BEFORE = timedelta(days=7)  # of the stable revision's past, where it has no present


def sweep(*, clock: Clock) -> None:
    """It moves what is due, stops what was replaced and starts what was approved.

    Each rollout may wait for a backend: by the time of the first, the later ones' leases would
    have run out and their holds be over.
    """
    for rollout_id in Rollout.objects.due(clock()).order_by("pk").values_list("pk", flat=True):
        try:
            reconcile(rollout_id, clock=clock)
        except Exception:  # one that cannot be moved must not hold up all the others
            log.exception("Rollout %s could not be reconciled; the next sweep tries", rollout_id)
    rollbacks.retire_replaced(now=clock())
    steering.start_due(now=clock())


def reconcile(rollout_id: int, *, clock: Clock) -> None:
    """It takes one step at most; whatever is lost half-way, the next call finds and repeats."""
    rollout = selectors.with_relations(Rollout.objects.all()).get(pk=rollout_id)
    if Phase(rollout.phase).is_final or not rollout.claim(clock()):
        return  # it has ended, or another worker is on it
    try:
        seen, analysis, is_known = look(rollout, clock())
        now = clock()  # looking took time, and what was seen was not seen before it
        decision = decide(rollout.frozen, rollout.state, rollout.wish, seen, now)
        if settling.settle(rollout=rollout, decision=decision, analysis=analysis, now=now):
            act(rollout, decision, seen, is_known=is_known, now=clock())
    finally:
        rollout.release(clock())


def look(rollout: Rollout, now: datetime) -> tuple[Seen, Analysis | None, bool]:
    """It gathers what the world reports; last, whether the backend knows of the candidate."""
    try:
        sight = sights.look(rollout.endpoint)
    except Unavailable as down:
        log.warning("The backend of %s did not answer: %s", rollout.endpoint, down.message)
        sight = None
    candidate = rollout.candidate
    weights = None if sight is None else sight.weights
    copies = None if sight is None else sight.shadow
    ready = {} if sight is None else sight.ready
    failing = {} if sight is None else sight.failing
    analysis = _judged(rollout, now)
    seen = Seen(
        weight=None if weights is None else weights.get(candidate.pk, 0),
        shadow=_copied(rollout, copies),
        # The scaler may have given it more since, or sent it to sleep while it was the stable one.
        candidate_ready=ready.get(candidate.pk, 0) >= min(candidate.replicas, rollout.replicas),
        candidate_failing=failing.get(candidate.pk, ""),
        verdict=Verdict.UNCLEAR if analysis is None else analysis.verdict,
        verdict_reason="nothing to analyse yet" if analysis is None else analysis.reason,
        digest_ok=rollout.promotion.digest
        == candidate.build.digest
        == rollout.promotion.version.digest,
    )
    return seen, analysis, candidate.pk in ready or candidate.pk in failing


def _copied(rollout: Rollout, copies: dict[int, int] | None) -> int | None:
    """Thousandths copied to the candidate; a plan that never copies asks nobody about it."""
    if not any(step.shadow for step in rollout.steps):
        return 0
    return None if copies is None else copies.get(rollout.candidate_id, 0)


def _judged(rollout: Rollout, now: datetime) -> Analysis | None:
    try:
        return analyse(rollout, now)
    except Exception as error:
        # An abort is read after this: figures that break must not hold the traffic where it is.
        log.exception("The analysis of rollout %s could not be made", rollout.pk)
        words = f"the analysis could not be made: {type(error).__name__}: {error}"
        return Analysis(Verdict.UNCLEAR, words)


def analyse(rollout: Rollout, now: datetime) -> Analysis | None:
    """It judges the candidate at its present step; None where nothing is to be judged."""
    steps = rollout.steps
    step = steps[rollout.step]
    began_at = selectors.step_began_at(rollout)
    if Phase(rollout.phase) not in (Phase.PROGRESSING, Phase.PAUSED) or began_at is None:
        return None
    if not step.analysis:
        return None
    # Callers never see answers to copies: those are compared with the stable revision's own.
    compare = monitoring.compare_shadow if step.shadow else monitoring.compare
    candidate, stable = compare(
        candidate=rollout.candidate, stable=rollout.stable, since=began_at, now=now
    )
    given = rollout.plan["tolerances"]
    tolerances = Tolerances(
        given["min_requests"], given["error_rate_difference"], given["latency_ratio"]
    )
    spans = None
    if rollout.stable is not None and step.weight == WEIGHT_TOTAL:
        # All traffic is on the candidate: what the stable revision did before is all there is.
        since = began_at - BEFORE
        past = monitoring.spans(revision=rollout.stable, since=since, now=began_at)
        present = monitoring.spans(revision=rollout.candidate, since=began_at, now=now)
        spans, stable = Spans(present, past), monitoring.whole(past)
        if stable.requests < tolerances.least_to_fail:
            # It gets no more of them: whoever waits for enough waits for ever.
            spans, stable = None, None
    alpha = given["alpha"] / analysed(steps)
    return judge(candidate, stable, tolerances, alpha, spans)


def analysed(steps: list[Step]) -> int:
    """Over how many analyses the allowed rate of false alarms is split."""
    return max(1, sum(step.analysis for step in steps))


def act(rollout: Rollout, decision: Decision, seen: Seen, *, is_known: bool, now: datetime) -> None:
    """It asks for the decided split, only where it is not what is wanted and seen already."""
    if not settling.ask_for(rollout=rollout, decision=decision, now=now):
        return
    is_there = (seen.weight, seen.shadow) == (decision.weight, decision.shadow)
    if is_there and (is_known or Phase(rollout.phase).is_final):
        return
    try:
        sights.converge(rollout.endpoint, now)
    except Unavailable as down:
        log.warning("%s not moved yet: %s", rollout.endpoint, down.message)
