"""Verbs on the way back, as long as what was replaced still runs."""

import logging
from datetime import datetime

from django.db import transaction

from apps.accounts.models import User
from apps.audit.services import record
from apps.core import live
from apps.core.dispatch import wake
from apps.core.errors import Refused, Unavailable
from apps.registry.services import aliases
from apps.rollouts import mails, selectors
from apps.rollouts.models import KEEP_WARM_SECONDS, Rollback, Rollout
from apps.rollouts.services.steering import RolloutRefused
from apps.serving.lifecycle import WEIGHT_TOTAL, RevisionWish
from apps.serving.models import Endpoint, Revision
from apps.serving.selectors import weights_of
from apps.serving.services import sights, wishes

log = logging.getLogger(__name__)


def revision_to(*, endpoint: Endpoint, version: int) -> Revision:
    """The revision that `roll_back` would go to for a version. Raises: RolloutRefused."""
    found = selectors.revision_of(endpoint, version)
    if found is None:
        raise RolloutRefused(
            f"v{version} never ran in {endpoint.environment.name}; request a promotion of it",
            "revision_unknown",
        )
    return found


def roll_back(
    *, endpoint: Endpoint, to: Revision | None = None, actor: User, reason: str, now: datetime
) -> Rollback:
    """It takes all traffic at once to a revision that still runs.

    Without `to`: to the one that the stable revision replaced. Where somebody was quicker, their
    rollback is returned and nothing changes. Raises: RolloutRefused (reason_missing,
    endpoint_busy, nothing_serves, already_serving, revision_unknown, no_way_back, not_ready).
    """
    if not reason.strip():
        raise RolloutRefused("Say why it is rolled back: its owners are told", "reason_missing")
    with transaction.atomic():
        rollback = _roll_back(endpoint, to, actor, reason.strip(), now)
    try:
        sights.converge(rollback.endpoint, now)
    except Unavailable as down:  # what is wanted is written; the sweep makes it so
        log.warning("%s is not in force yet: %s", rollback, down.message)
    return rollback


def _roll_back(
    endpoint: Endpoint, to: Revision | None, actor: User, reason: str, now: datetime
) -> Rollback:
    held = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
    busy = Rollout.objects.moving().filter(endpoint=held).first()
    if busy is not None:
        raise RolloutRefused(
            f"The {busy} still moves; abort it, which takes all traffic back", "endpoint_busy"
        )
    last = selectors.rollback_in_force(held)
    if last is not None and (to is None or to.pk == last.to_id):
        return last  # a second click must not go back a second time
    if held.stable is None:
        raise RolloutRefused(
            f"Nothing serves {held} that could be rolled back; request a promotion of the version "
            "that should serve",
            "nothing_serves",
        )
    target = _way_back(held, held.stable, to)
    wishes.set_traffic(
        endpoint=held, weights={target.pk: WEIGHT_TOTAL}, actor=actor, reason=reason, now=now
    )
    copies = weights_of(held.shadow_wanted)
    if copies.pop(target.pk, None):  # it would be asked everything twice
        wishes.set_shadow(endpoint=held, shares=copies, actor=actor, reason=reason, now=now)
    left, brought = held.stable, selectors.brought_in(held.stable)
    wishes.set_stable(endpoint=held, revision=target, now=now)
    aliases.set_alias(
        model=held.model, name=held.environment.name, number=target.version.number, now=now
    )
    rollback = Rollback.objects.create(
        endpoint=held,
        left=left,
        to=target,
        after=held.rollouts.first(),
        reason=reason,
        at=now,
        keep_warm_seconds=brought.keep_warm.total_seconds() if brought else KEEP_WARM_SECONDS,
    )
    _tell_of(rollback, actor, now)
    return rollback


def _way_back(endpoint: Endpoint, stable: Revision, to: Revision | None) -> Revision:
    """The revision to go back to. Raises: RolloutRefused, saying how to get there instead."""
    where = endpoint.environment.name
    target = selectors.replaced_by(stable) if to is None else to
    if target is None:
        raise RolloutRefused(
            f"Nothing served {endpoint} before {stable.version}; request a promotion of the "
            "version that should serve",
            "no_way_back",
        )
    if target.endpoint_id != endpoint.pk:
        raise RolloutRefused(f"{target} is not one of {endpoint}", "revision_unknown")
    if target.pk == stable.pk:
        raise RolloutRefused(f"{stable.version} serves in {where} already", "already_serving")
    target.refresh_from_db()  # only now is it held
    if target.wanted != RevisionWish.RUN:
        raise RolloutRefused(
            f"{target.version} no longer runs in {where}; request a promotion of "
            f"v{target.version.number} instead",
            "no_way_back",
        )
    if not selectors.is_ready(target):
        raise RolloutRefused(
            f"{target.version} is not ready in {where}: it is {target.state}"
            f"{f' ({target.reason})' if target.reason else ''}; try again when it is",
            "not_ready",
        )
    return target


def retire_replaced(*, now: datetime) -> None:
    """It stops revisions that were replaced long enough ago; until then going back is quick."""
    for revision in selectors.left_long_ago(now):
        try:
            wishes.retire(revision=revision, now=now)
        except Refused as needed:  # somebody went back to it at this moment
            log.info("%s stays: %s", revision, needed.message)


def _tell_of(rollback: Rollback, actor: User, now: datetime) -> None:
    endpoint, left, to = rollback.endpoint, rollback.left, rollback.to
    record(
        "endpoint.rolled_back",
        endpoint,
        actor=actor,
        now=now,
        model_name=endpoint.model.name,
        environment=endpoint.environment.name,
        reason=rollback.reason,
        evidence={
            "from_version": left.version.number,
            "to_version": to.version.number,
            "from_revision": left.pk,
            "to_revision": to.pk,
            "digest": to.build.digest,
        },
    )
    mails.taken_back(rollback, actor, now)
    for topic in (
        f"endpoint:{endpoint.pk}",
        f"model:{endpoint.model.name}",
        f"version:{left.version_id}",
        f"version:{to.version_id}",
        "home:all",
    ):
        live.publish(topic)
    wake("promotions.sweep")  # what was compared with the one that was left is out of date
