from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Count, Max, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from apps.accounts.selectors import Caller, may, require
from apps.audit.models import Event
from apps.registry import selectors
from apps.registry.models import Model, Version
from apps.registry.policy import parse

PAGE = 20


@dataclass(frozen=True)
class Mark:
    """One mark of a version's strip of checks."""

    name: str
    verdict: str
    url: str


def model_for(user: Caller, name: str, verb: str = "view") -> Model:
    """The model of this name, for somebody who may do the verb to it; 404 tells nothing."""
    model = get_object_or_404(Model.objects.select_related("team"), name=name)
    require(user, verb, model)
    return model


@login_required
@require_safe
def models(request: HttpRequest) -> HttpResponse:
    require(request.user, "view")
    words = request.GET.get("q", "").strip()
    found = selectors.visible_models(request.user)
    shown = (
        found.filter(name__icontains=words)
        .annotate(count=Count("versions"))
        .annotate(newest=Max("versions__number", filter=Q(versions__gone_at=None)))
        .annotate(newest_at=Max("versions__registered_at"))
        .order_by("name")
        .prefetch_related("endpoints__environment", "endpoints__stable__version")
    )
    context = {
        "page": Paginator(shown, 50).get_page(request.GET.get("page")),
        "words": words,
        "commands": commands_for("my-model"),
    }
    template = (
        "registry/_models.html" if request.headers.get("HX-Request") else "registry/page.html"
    )
    return render(request, template, context)


@login_required
@require_safe
def model(request: HttpRequest, name: str) -> HttpResponse:
    found = model_for(request.user, name)
    context = {
        "model": found,
        "environments": _environments(found),
        "policy": found.policies.defer("document", "text").order_by("-number").first(),
        "datasets": found.datasets.select_related("registered_by")[:50],
        "aliases": found.aliases.order_by("name"),
        "page": _with_checks(Paginator(_versions(found), PAGE).get_page(request.GET.get("page"))),
        "commands": commands_for(found.name),
        "dataset_command": dataset_command(found.name),
        "may_register": may(request.user, "dataset.register", found),
    }  # fmt: skip
    template = (
        "registry/_model.html" if request.headers.get("HX-Request") else "registry/model.html"
    )
    return render(request, template, context)


def _environments(model: Model) -> list[dict[str, Any]]:
    """One row for each environment of the policy or with an endpoint, in the order passed."""
    endpoints = {
        endpoint.environment.name: endpoint
        for endpoint in model.endpoints.select_related(
            "environment", "stable__version__registered_by"
        ).order_by("environment__order")
    }
    rows = []
    for name in dict.fromkeys([*order_of(model), *endpoints]):
        endpoint = endpoints.get(name)
        changed = (
            Event.objects.filter(
                verb="traffic.changed", model_name=model.name, environment=name
            ).first()
            if endpoint
            else None
        )
        moving = (
            endpoint.rollouts.moving().select_related("candidate__version").first()
            if endpoint
            else None
        )
        rows.append({"name": name, "endpoint": endpoint, "changed": changed, "moving": moving})
    return rows


def order_of(model: Model) -> list[str]:
    """The environments of the policy as its author wrote them: a JSON column keeps no order."""
    return list(parse(selectors.policy_of(model).text).environments)


def _versions(model: Model) -> QuerySet[Version]:
    """Newest first by MLflow's clock: numbers begin at 1 again after a model was deleted."""
    newest = model.versions.order_by("-registered_at", "-number", "-pk")
    return newest.select_related("registered_by")


def _with_checks(page: Any) -> Any:
    """It gives each version of the page its `marks`: the build, then the newest checks."""
    versions = {version.pk: version for version in page.object_list}
    held = Version.objects.filter(pk__in=versions)
    marks: dict[int, dict[str, list[Mark]]] = {pk: {} for pk in versions}
    for pk, build, number, status in held.order_by("builds__number").values_list(
        "pk", "builds__pk", "builds__number", "builds__status"
    ):
        if build:
            url = reverse("build", args=[build])
            marks[pk][""] = [Mark(f"build {number}: {status}", status, url)]
    newest: dict[tuple[int, str], int] = {}
    for pk, run, where, status in held.order_by("validations__pk").values_list(
        "pk", "validations__pk", "validations__environment__name", "validations__status"
    ):
        if run:
            newest[pk, where] = run
            mark = Mark(f"gates for {where}: {status}", status, reverse("validation", args=[run]))
            marks[pk][where] = [] if status == "done" else [mark]
    for pk, run, where, number, title, verdict in (
        held.filter(validations__in=newest.values())
        .exclude(validations__checks=None)
        .order_by("validations__checks__number")
        .values_list(
            "pk", "validations__pk", "validations__environment__name",
            "validations__checks__number", "validations__checks__title",
            "validations__checks__verdict",
        )
    ):  # fmt: skip
        url = f"{reverse('validation', args=[run])}#check-{number}"
        marks[pk][where].append(Mark(f"{title} ({where})", verdict, url))
    for pk, version in versions.items():
        version.marks = [mark for group in marks[pk].values() for mark in group]
    return page


def commands_for(name: str) -> str:
    """What a data scientist types to register a version under this name."""
    return (
        f"export MLFLOW_TRACKING_URI={settings.PUBLIC_URL}/mlflow\n"
        "export MLFLOW_TRACKING_TOKEN=<your token>\n"
        f'mlflow.sklearn.log_model(model, name="model", registered_model_name="{name}",'
        " input_example=rows.head(5))"
    )


def dataset_command(name: str) -> str:
    return (
        f"curl -H 'Authorization: Bearer <your token>' -F name=holdout -F role=holdout \\\n"
        f"  -F label_column=label -F file=@holdout.parquet \\\n"
        f"  {settings.PUBLIC_URL}/api/v1/models/{name}/datasets"
    )
