"""Verbs on policies."""

from datetime import datetime

from django.db import transaction

from apps.accounts.models import User
from apps.audit.services import record
from apps.core import live
from apps.core.dispatch import wake
from apps.registry import policy
from apps.registry.models import Model, Policy


@transaction.atomic
def put_policy(*, model: Model, text: str, actor: User, now: datetime) -> Policy:
    """It makes `text` the model's policy. Raises: policy.PolicyRefused with every mistake."""
    before = model.policies.order_by("-number").first()
    edition = add_policy(model, text, actor, now)
    changed = policy.changes(before.document if before else {}, edition.document)
    record(
        "policy.changed",
        model,
        actor=actor,
        now=now,
        model_name=model.name,
        evidence={
            "number": edition.number,
            "changes": {c.path: {"was": c.was, "now": c.now} for c in changed},
            "document": edition.document,
        },
    )
    live.publish(f"model:{model.name}")
    wake("promotions.sweep")
    wake("serving.sweep")
    return edition


def add_policy(model: Model, text: str, author: User | None, now: datetime) -> Policy:
    """It writes the next edition. Raises: policy.PolicyRefused with every mistake."""
    document = policy.parse(text)
    Model.objects.select_for_update().get(pk=model.pk)  # two editors: one number each
    last = Policy.objects.filter(model=model).order_by("-number").first()
    return Policy.objects.create(
        model=model,
        number=last.number + 1 if last else 1,
        text=text,
        document=document.model_dump(mode="json"),
        author=author,
        created_at=now,
    )
