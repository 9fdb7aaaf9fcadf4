from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from apps.accounts.selectors import require
from apps.core.errors import Refused
from apps.core.templatetags import formats
from apps.quality import asked, charts, columns, selectors
from apps.quality.cbpe import BLIND
from apps.quality.forms import WORDS, ChoiceForm
from apps.quality.metrics import LABELS, Figure
from apps.quality.selectors import Measured
from apps.serving import selectors as serving
from apps.serving.models import Endpoint, Revision

CURL = """curl -X POST {url}/api/v1/feedback \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '[{{"request_id": "x-request-id of the answer", "label": {label}, "endpoint": "{name}"}}]'"""
EXAMPLES = {"binary": "1", "multiclass": '"a class"', "regression": "12.5"}
WAITING = ("until-counting", "until-labels")
IN_SHARES = {"accuracy", "precision", "recall", "ece"}


@login_required
@require_safe
def quality(request: HttpRequest, environment: str, name: str) -> HttpResponse:
    """How good predictions were, by the labels that have come, and by scores alone."""
    endpoint = get_object_or_404(
        serving.visible_to(request.user), environment__name=environment, name=name
    )
    require(request.user, "view", endpoint)
    revisions = list(endpoint.revisions.select_related("version", "endpoint"))
    form = ChoiceForm(
        request.GET,
        revisions=revisions,
        slices=selectors.slices_of(endpoint),
        columns=columns.choices(endpoint),
    )
    chosen = form.chosen()
    until = timezone.now()
    since = until - asked.WINDOWS[chosen["window"]]
    revision, part = asked.chosen(
        endpoint, {key: int(chosen[key]) for key in ("revision", "slice") if key in chosen}
    )
    counting = selectors.looking_back(endpoint, since)
    context: dict[str, Any] = {"endpoint": endpoint, "counting": counting}
    # While a slice counts what came before it, the two parts that show it are asked for again.
    target = request.headers.get("HX-Target", "") if request.headers.get("HX-Request") else ""
    if target in WAITING:
        return waited(endpoint, target, counting)
    if target == "by-slice":
        context |= sliced(endpoint, since, until, counting)
        return render(request, "quality/_by_slice.html", context)
    serves = revision or endpoint.stable
    reference = selectors.reference_of(serves)
    seen = selectors.measured(endpoint, since, until, revision=revision, slice=part)
    context |= {
        "window_words": WORDS[chosen["window"]],
        "seen": seen,
        "tiles": tiles(seen, reference.values),
        "reference": reference,
        "lateness": selectors.lateness(endpoint, since, until),
        "covered": seen.labels / seen.predictions if seen.predictions else None,
        "part": part,
        "is_counting": part is not None and part.pk in counting,
        "counted_back_to": counting.get(part.pk) if part else None,
    }
    if target == "measured":
        return render(request, "quality/_measured.html", context)
    estimated = Measured("", 0, 0)
    if serves:
        estimated = selectors.estimated(serves, since, until, slice=part)
    metric = chosen.get("metric") or asked.first_metric(endpoint, revision)
    confusion = selectors.confusion_of(seen)
    context |= sliced(endpoint, since, until, counting) | {
        "model": endpoint.model,
        "form": form,
        "has_labels": selectors.has_labels(endpoint),
        "curl": curl(request, endpoint),
        "estimated": estimated,
        "estimates": tiles(estimated, reference.values),
        "blind": BLIND,
        "metric": LABELS[metric],
        "chart_query": urlencode(chosen_for_chart(chosen)),
        "trend_query": urlencode({"metric": metric, "step": asked.step_for(until - since)}),
        "trend": asked.trend(
            endpoint, since, until, asked.step_for(until - since), metric, revision, part, False
        ),
        "curve": selectors.calibration_of(seen),
        "confusion": charts.confusion(*confusion) if confusion else None,
        "by_revision": rows_of(selectors.by_revision(endpoint, since, until)),
        "names": [LABELS[known] for known in seen.metrics],
        "uncounted": selectors.uncounted(endpoint),
        "by_column": by_column(endpoint, chosen.get("column", ""), since, until, revision),
    }
    return render(request, "quality/page.html", context)


def sliced(
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    counting: dict[int, datetime | None],
) -> dict[str, Any]:
    """The table of slices."""
    rows = [
        row | {"is_counting": row["thing"].pk in counting}
        for row in rows_of(selectors.by_slice(endpoint, since, until))
    ]
    heads: list[dict[str, str]] = next((row["figures"] for row in rows if row["figures"]), [])
    return {"by_slice": rows, "slice_names": [figure["label"] for figure in heads]}


def tiles(seen: Measured, reference: dict[str, float]) -> list[dict[str, str | None]]:
    """A figure each, with its interval and what the reference's labels gave."""
    found = []
    for name, figure in seen.metrics.items():
        notes = [interval(name, figure)] if figure.value is not None else [figure.reason]
        if name in reference:
            notes.append(f"reference {shown(name, reference[name])}")
        if figure.note:
            notes.append(figure.note)
        if figure.bound is not None and figure.bound >= 0.0005:
            notes.append(f"off by at most {figure.bound:.4f} by binning")
        found.append(
            {
                "label": LABELS[name],
                "value": None if figure.value is None else shown(name, figure.value),
                "note": "; ".join(note for note in notes if note),
            }
        )
    return found


def shown(name: str, value: float) -> str:
    return formats.format_percent(value) if name in IN_SHARES else formats.format_num(value)


def interval(name: str, figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"95 %: {shown(name, figure.low)} to {shown(name, figure.high)}"


def rows_of(found: Sequence[tuple[Any, Measured]]) -> list[dict[str, Any]]:
    """A line a revision or slice; its figures in the order of the table's head."""
    return [
        {
            "thing": thing,
            "labels": seen.labels,
            "reason": seen.reason,
            "figures": figures(seen.metrics),
        }
        for thing, seen in found
    ]


def figures(known: dict[str, Figure]) -> list[dict[str, str]]:
    return [
        {
            "label": LABELS[name],
            "value": formats.NOT_MEASURED if one.value is None else shown(name, one.value),
            "note": "; ".join(filter(None, [interval(name, one), one.note, one.reason])),
        }
        for name, one in known.items()
    ]


def by_column(
    endpoint: Endpoint,
    column: str,
    since: datetime,
    until: datetime,
    revision: Revision | None,
) -> dict[str, Any] | None:
    """The table of a column that was chosen, or why there is none."""
    if not column:
        return None
    try:
        found = columns.by_column(endpoint, column, since, until, revision=revision)
    except Refused as refused:
        return {"column": column.removeprefix("in."), "reason": refused.message}
    return {
        "column": column.removeprefix("in."),
        "found": found,
        "rows": [
            {"label": one.label, "labels": one.labels, "figures": figures(one.metrics)}
            for one in found.groups
        ],
    }


def chosen_for_chart(chosen: dict[str, str]) -> dict[str, str]:
    """What a chart is asked for, up to the moment when it asks: a fixed end would not be live."""
    kept = {"only": "figure"}
    kept |= {key: chosen[key] for key in ("window", "revision", "slice") if key in chosen}
    return kept


def waited(endpoint: Endpoint, target: str, counting: dict[int, datetime | None]) -> HttpResponse:
    """What an open page that follows nothing yet asks: whether it is to be loaded again."""
    is_over = bool(counting) if target == "until-counting" else selectors.has_labels(endpoint)
    return HttpResponse(headers={"HX-Refresh": "true"}) if is_over else HttpResponse(status=204)


def curl(request: HttpRequest, endpoint: Endpoint) -> str:
    """The call that sends a label, as it is typed."""
    return CURL.format(
        url=request.build_absolute_uri("/").rstrip("/"),
        label=EXAMPLES.get(selectors.task_of(endpoint), "1"),
        name=f"{endpoint.environment.name}/{endpoint.name}",
    )
