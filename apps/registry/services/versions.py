"""Verbs on versions: what MLflow registered, taken into the panel."""

import logging
import re
from datetime import datetime, timedelta
from typing import Any

from django.db import DataError, IntegrityError, transaction

from apps.accounts.models import User
from apps.accounts.selectors import teams_of
from apps.accounts.services import create_team
from apps.audit.services import record
from apps.core import live
from apps.core.dispatch import wake
from apps.core.errors import Refused
from apps.registry import found, mlflow_link, policy
from apps.registry.lifecycle import Source
from apps.registry.models import Model, RunInput, Submission, Version
from apps.registry.services import policies

log = logging.getLogger(__name__)
EVERYONE = "everyone"
CLOCKS_DIFFER = timedelta(minutes=5)  # at most, as for the signature of a webhook
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class NameRefused(Refused):
    code = "model_name_unusable"


NOT_TAKEN = (*mlflow_link.ODD_ANSWER, mlflow_link.NotThere, NameRefused, DataError)


def register_version(*, name: str, number: int, seen_by: Source, now: datetime) -> Version:
    """It takes a version of MLflow into the panel; one that is known is returned as it is.

    A number that MLflow gave out anew, after its model was deleted there, is another version: the
    one that had it before is marked as gone.

    Raises: mlflow_link.NotThere, Refusal, Unavailable; NameRefused for a name that no address can
    hold.
    """
    if not NAME.fullmatch(name):
        raise NameRefused(
            f"The model name {name!r} cannot stand in an address: use letters, digits, . _ and -"
        )
    said = mlflow_link.version(name, number)
    living = Version.objects.living().filter(model__name=name, number=number)
    known = living.first()
    if known is not None and known.registered_at >= found.registered_at(said):
        return known
    run = _run_of(said)
    try:
        with transaction.atomic():
            if known is not None:
                let_go(known, f"MLflow gave the number of {known} to another version", now)
            return _take(said, run, seen_by, now)
    except IntegrityError:  # the webhook and the sweep at once: the other one has it
        return living.get()


def _run_of(said: dict[str, Any]) -> dict[str, Any]:
    """The training run; nothing for a version that has none, or none any more."""
    if not said.get("run_id"):
        return {}
    try:
        return mlflow_link.run(said["run_id"])
    except mlflow_link.NotThere:  # purged: what it trained is there all the same
        log.warning("The run of %s v%s is gone", said["name"], said["version"])
        return {}


def _take(said: dict[str, Any], run: dict[str, Any], seen_by: Source, now: datetime) -> Version:
    name, number, registered_at = found.identity(said)
    sender = _sender(name, number, registered_at)
    model = Model.objects.filter(name=name).first()
    if model is None:
        model = _create_model(name, sender, now)
    version = Version.objects.create(
        model=model,
        number=number,
        registered_by=sender,
        seen_at=now,
        seen_by=seen_by,
        **found.version_fields(said, run),
    )
    for fields in found.input_fields(run):
        RunInput.objects.create(version=version, **fields)
    record(
        "version.registered",
        version,
        actor=sender,
        now=now,
        model_name=name,
        reason=f"Seen by {seen_by}",
        evidence={"run_id": version.run_id, "source": version.source, "seen_by": seen_by},
    )
    for topic in (f"model:{name}", "home:all"):
        live.publish(topic)
    wake("builds.sweep")
    return version


def _sender(name: str, number: int, registered_at: datetime) -> User | None:
    """Who sent it through the panel; not who sent what had this number before."""
    since = registered_at - CLOCKS_DIFFER
    sent = Submission.objects.filter(model_name=name, number=number, at__gte=since).first()
    return sent.user if sent else None


def let_go(version: Version, why: str, now: datetime) -> None:
    """It marks a version that MLflow has no more; what was built of it stays, and serves on."""
    if Version.objects.living().filter(pk=version.pk).update(gone_at=now) != 1:
        return
    version.gone_at = now
    # MLflow dropped them too; one that waits would be set on whatever gets the number next.
    version.model.aliases.filter(wanted=version.number).delete()
    record(
        "version.gone",
        version,
        actor=None,
        now=now,
        model_name=version.model.name,
        reason=why,
        evidence={
            "run_id": version.run_id,
            "source": version.source,
            "registered_at": version.registered_at.isoformat(),
            "digest": version.digest,
        },
    )
    for topic in (f"version:{version.pk}", f"model:{version.model.name}", "home:all"):
        live.publish(topic)


def _create_model(name: str, sender: User | None, now: datetime) -> Model:
    team = teams_of(sender, "mlflow.write").order_by("pk").first() if sender else None
    model, created = Model.objects.get_or_create(
        name=name,
        defaults={"team": team or create_team(name=EVERYONE.capitalize()), "created_at": now},
    )
    if created:
        record("model.registered", model, actor=sender, now=now, model_name=name)
        policies.add_policy(model, policy.DEFAULT_TEXT, None, now)
    return model


@transaction.atomic
def note_submission(*, name: str, number: int, user: User, now: datetime) -> None:
    """It remembers who sent a version through the panel, whichever of the two came first."""
    # MLflow gives a number out again after its model was deleted: the last sender has it.
    Submission.objects.update_or_create(
        model_name=name, number=number, defaults={"user": user, "at": now}
    )
    Version.objects.living().filter(model__name=name, number=number, registered_by=None).update(
        registered_by=user
    )
    team = teams_of(user, "mlflow.write").order_by("pk").first()
    others = Version.objects.filter(model__name=name).exclude(number=number)
    if team is not None and not others.exists():  # who sends a later one does not take it over
        Model.objects.filter(name=name, team__slug=EVERYONE).update(team=team)
