"""Questions to the registry."""

from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet

from apps.accounts.selectors import Caller, teams_of
from apps.registry import policy
from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Dataset, Model, Policy, Version

# Of RunInput.source, for PostgreSQL: what names a Parquet or CSV file that MLflow keeps.
LOGGED_IN_MLFLOW = (
    r"((^|\")(mlflow-artifacts|runs|models):/|/api/2\.0/mlflow-artifacts/artifacts/)"
    r"[^\"]*\.(parquet|csv)\"?"
)


def visible_models(user: Caller) -> QuerySet[Model]:
    return Model.objects.filter(team__in=teams_of(user)).select_related("team")


def visible_versions(user: Caller) -> QuerySet[Version]:
    """One row a number, so that a name and a number find one version."""
    found = Version.objects.newest().filter(model__team__in=teams_of(user))
    return found.select_related("model")


def search(user: Caller, words: str) -> list[Model]:
    found = visible_models(user)
    for word in words.split():
        found = found.filter(name__icontains=word)
    return list(found[:50])


def policy_of(model: Model) -> Policy:
    """The policy in force. Every model has one from the moment it is first seen."""
    return model.policies.order_by("-number")[0]


def verb_to_put(model: Model, text: str) -> str:
    """What somebody must be allowed in order to put this policy in force.

    Who runs the endpoints may change how they are served, and nothing about who decides.
    """
    try:
        document = policy.parse(text).model_dump(mode="json")
    except policy.PolicyRefused:
        return "endpoint.configure"  # nothing will change: whoever may edit is told the mistakes
    changed = policy.changes(policy_of(model).document, document)
    return "endpoint.configure" if all(map(policy.is_about_serving, changed)) else "policy.edit"


def editions(model: Model, count: int) -> list[tuple[Policy, list[policy.Change]]]:
    """The newest editions of the policy, each with what it changed."""
    rows = list(model.policies.select_related("author")[: count + 1])
    before = [*rows[1:], None]
    pairs = zip(rows, before, strict=True)
    return [
        (row, policy.changes(older.document, row.document) if older else []) for row, older in pairs
    ][:count]


def documents(models: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Model -> the document of its policy in force, for many models at once."""
    newest = Policy.objects.filter(model__in=set(models)).order_by("model_id", "-number")
    return dict(newest.distinct("model_id").values_list("model_id", "document"))


def entered_automatically() -> dict[str, list[int]]:
    """Environment name -> the models whose policy in force lets versions enter it by themselves."""
    newest = Policy.objects.order_by("model_id", "-number").distinct("model_id")
    found: dict[str, list[int]] = {}
    for model_id, document in newest.values_list("model_id", "document"):
        for name, rules in document.get("environments", {}).items():
            if rules.get("enter") == "automatic":
                found.setdefault(name, []).append(model_id)
    return found


def document_of(model: Model) -> policy.Document:
    return policy.Document.model_validate(policy_of(model).document)


def holdout_of(model: Model) -> Dataset | None:
    """The newest data set of the name that the policy judges on."""
    name = document_of(model).holdout
    return (
        model.datasets.filter(name=name, role=DatasetRole.HOLDOUT).order_by("-pk").first()
        if name
        else None
    )
