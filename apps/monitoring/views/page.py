"""The monitoring page of an endpoint: what its requests and its columns did in a window."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.models import User
from apps.accounts.selectors import may, require
from apps.baselines import selectors as baselines
from apps.baselines.lifecycle import State
from apps.core.errors import Refused
from apps.core.templatetags import formats
from apps.monitoring import headline, minis, shown, spans
from apps.monitoring.conditions import FIXED
from apps.monitoring.forms import OPS, ChoiceForm, Chosen, SliceForm
from apps.monitoring.models import Rollup, Slice
from apps.monitoring.rows import OUTPUT
from apps.monitoring.selectors import charts, columns, drift, health, requests, versus
from apps.monitoring.selectors import slices as slice_selectors
from apps.monitoring.selectors.drift import Drift
from apps.monitoring.selectors.versus import NothingToCompare, Versus
from apps.monitoring.services import slices as slicing
from apps.monitoring.views import usage
from apps.serving.models import Endpoint, Revision

SHOWN_AT_ONCE = 8
CHARTS = (
    ("traffic", "Requests by version", ""),
    ("errors", "Errors by version", ""),
    ("latency", "Latency by version", ""),
    ("gateway", "Time beside the model", "What the gateway and the way to the model add."),
)  # fmt: skip
COLUMN_CHARTS = (
    ("drift", "Distance from {}",
     "The eight columns that went furthest; each point needs 500 rows{}. Dashed: the usual "
     "threshold; dotted: critical."),
    ("missing", "Rows without a usable value", "Missing, not sent, of a wrong type, not finite."),
)  # fmt: skip


@dataclass(frozen=True)
class Looked:
    """What one request of the page looks at."""

    endpoint: Endpoint
    chosen: Chosen
    since: datetime
    until: datetime
    now: datetime
    pair: Versus | None  # two revisions whose columns are compared
    drift: Drift | None


@login_required
@require_safe
def monitoring(request: HttpRequest, environment: str, name: str) -> HttpResponse:
    endpoint = endpoint_of(request, environment, name, "view")
    return _page(request, endpoint)


@login_required
@require_POST
def make_slice(request: HttpRequest, environment: str, name: str) -> HttpResponse:
    endpoint = endpoint_of(request, environment, name, "slice.edit")
    form = SliceForm(request.POST, columns=_columns_of(endpoint))
    if not form.is_valid():
        return _page(request, endpoint, form, status=422)
    assert isinstance(request.user, User)
    try:
        made = slicing.create(
            endpoint=endpoint,
            name=form.cleaned_data["name"],
            condition=form.condition,
            actor=request.user,
            now=timezone.now(),
        )
    except Refused as refused:
        form.add_error(None, refused.message)
        return _page(request, endpoint, form, status=422)
    messages.success(request, f"{made.name} is counted from now on")
    return redirect(f"{_address(endpoint)}?slice={made.pk}")


@login_required
@require_POST
def retire_slice(request: HttpRequest, environment: str, name: str, slice_pk: int) -> HttpResponse:
    endpoint = endpoint_of(request, environment, name, "slice.edit")
    found = get_object_or_404(Slice, pk=slice_pk, endpoint=endpoint)
    assert isinstance(request.user, User)
    slicing.retire(part=found, actor=request.user, now=timezone.now())
    messages.success(request, f"{found.name} is counted no longer")
    return redirect(f"{_address(endpoint)}#slices")


# ---- the page -------------------------------------------------------------------------------


def _page(
    request: HttpRequest, endpoint: Endpoint, slice_form: SliceForm | None = None, status: int = 200
) -> HttpResponse:
    now = timezone.now()
    revisions = list(endpoint.revisions.select_related("version").order_by("-number"))
    for one in revisions:
        one.endpoint = endpoint
    slices = list(endpoint.slices.filter(retired_at=None))
    answered = requests.answered(endpoint)
    form = ChoiceForm(
        request.GET,
        revisions=revisions,
        stable=endpoint.stable_id,
        slices=slices,
        answered=answered,
    )
    chosen = form.chosen()
    until = chosen.until or spans.before(now - timedelta(seconds=spans.LATE_SECONDS), 10)
    since = until - chosen.length
    pair = _pair(chosen, since, until)
    seen = _drift(chosen, pair, since, until)
    among = {one.pk for one in (chosen.revision, chosen.other) if one} if chosen.other else set()
    figures = health.of(
        endpoint, since, until, now, among=among, part=chosen.slice, copies=chosen.copies
    )
    looked = Looked(endpoint, chosen, since, until, now, pair, seen)
    context = {
        "endpoint": endpoint,
        "model": endpoint.model,
        "chosen": chosen,
        "since": since,
        "until": until,
        "live": f"endpoint:{endpoint.pk}" if chosen.is_live else "",
        "drift": seen,
        "column_label": columns.label_of(chosen.column),
        "reference_word": chosen.reference,
        "tiles": shown.tiles(figures),
        "fresh": headline.freshness(
            None if figures.last_at is None else now - figures.last_at, figures.usual_gap_seconds
        ),
        **_first(looked),
        **_columns(request, looked),
        **usage.replicas(endpoint, chosen, since, until),
    }
    if request.headers.get("HX-Request"):
        return render(request, "monitoring/_monitoring.html", context)
    context |= {
        "choices": [
            form["revision"],
            form["compare"],
            *([form["rows"]] if answered.copies else []),
            *([form["slice"]] if slices else []),
        ],
        "windows": _windows(request, chosen),
        "fixed_url": _query(request, until=until.isoformat()),
        "now_url": _query(request, until=""),
        "query": _chart_query(chosen),
        "column_query": _chart_query(chosen, chosen.column),
        "charts": _charts(looked),
        "use_charts": usage.charts(),
        "model_has_revisions": bool(revisions),
        "marks": charts.marks(endpoint, since, until)[::-1],
        **_slices(request, endpoint, slices, slice_form, chosen),
    }
    return render(request, "monitoring/page.html", context, status=status)


def _pair(chosen: Chosen, since: datetime, until: datetime) -> Versus | None:
    if chosen.revision is None or chosen.beside is None:
        return None
    try:
        return versus.during(
            chosen.revision,
            chosen.beside,
            since,
            until,
            slice=chosen.slice,
            shadow=chosen.copies,
        )
    except NothingToCompare:
        return None


def _drift(chosen: Chosen, pair: Versus | None, since: datetime, until: datetime) -> Drift | None:
    if pair is not None:
        return versus.judged(pair, since, until, slice=chosen.slice)
    if chosen.revision is None or chosen.beside is not None:
        return None
    found = drift.of(
        chosen.revision,
        since,
        until,
        against=chosen.against,
        slice=chosen.slice,
        shadow=chosen.copies,
    )
    return found if found.baseline is not None else None


def _first(looked: Looked) -> dict[str, Any]:
    """The first lines: drift in words, the next step where there is none, and freshness."""
    chosen, seen = looked.chosen, looked.drift
    if seen is not None:
        line = headline.of_columns(
            seen.columns,
            seen.rows,
            formats.format_duration(seen.until - seen.since),
            chosen.reference,
        )
        return {"headline": line, "drift_words": formats.format_duration(seen.until - seen.since)}
    if chosen.revision is None:
        words = "No version was ever deployed here"
        note = f"A promotion of {looked.endpoint.model.name} brings one in."
        return {"headline": headline.Headline("idle", words, note)}
    sides = [one for one in (chosen.revision, chosen.beside) if one is not None]
    without = (one for one in sides if baselines.in_force(one.version) is None)
    lacking = next(without, chosen.revision)  # one may have become ready since
    return _without_baseline(looked, lacking)


def _without_baseline(looked: Looked, revision: Revision) -> dict[str, Any]:
    """Why nothing is said about drift, and what to do."""
    model, version = looked.endpoint.model, revision.version
    newest = baselines.of_version(version).first()
    if newest is not None and not State(newest.state).is_final:
        words = f"The baseline of v{version.number} is being made"
        return {"headline": headline.Headline("running", words, "Drift is shown as soon as it is.")}
    why = newest.reason if newest is not None else "Nobody registered data to compare with."
    return {
        "headline": headline.Headline(
            "no_baseline",
            f"No baseline yet: v{version.number} has nothing to compare its rows with",
            why,
        ),
        "next_step": {
            "text": "Log the training data with the model, or",
            "label": "register a reference data set",
            "url": reverse("dataset-register", args=[model.name]),
            "command": 'mlflow.log_input(mlflow.data.from_pandas(frame), context="training")',
        },
    }


def _columns(request: HttpRequest, looked: Looked) -> dict[str, Any]:
    """The columns ranked, each with its small distribution, and those with unsound values."""
    seen, revision = looked.drift, looked.chosen.revision
    if seen is None or revision is None:
        return {}
    chosen, apart = looked.chosen, looked.pair.shared.apart if looked.pair else {}
    layout, *counts = columns.counted(_wanted(looked), seen)
    rows = [
        shown.Row(
            one,
            f"{_query(request, column=one.name)}#distribution",
            None
            if one.name in apart
            else minis.of(*(part[slice(*layout.slices[one.name])].tolist() for part in counts)),
            why="bins differ" if one.name in apart else "",
        )
        for one in seen.columns
    ]
    notes = versus.notes(looked.pair) if looked.pair else {}
    first = max(SHOWN_AT_ONCE, sum(one.is_loud for one in seen.columns))
    return {
        "columns": rows[:first],
        "more_columns": rows[first:],
        "columns_caption": shown.caption(chosen, seen.rows),
        "notes": [(columns.label_of(name), why) for name, why in notes.items()],
        "column_note": notes.get(chosen.column, ""),
        "column_words": next(
            (
                shown.distances(one, chosen.reference)
                for one in seen.columns
                if one.name == chosen.column
            ),
            "",
        ),
        "quality": shown.quality(seen.columns),
        "quality_words": list(shown.QUALITY.values()),
    }


def _wanted(looked: Looked) -> columns.Wanted:
    chosen = looked.chosen
    return columns.Wanted(
        revision=chosen.revision,
        since=looked.since,
        until=looked.until,
        against=chosen.against,
        other=chosen.beside,
        slice=chosen.slice,
        shadow=chosen.copies,
    )


def _windows(request: HttpRequest, chosen: Chosen) -> list[dict[str, Any]]:
    return [
        {"label": words, "url": _query(request, window=name), "current": name == chosen.window}
        for name, words in spans.WORDS.items()
    ]


def _charts(looked: Looked) -> list[dict[str, str]]:
    wanted = CHARTS if looked.drift is None else COLUMN_CHARTS + CHARTS
    both = " of both" if looked.pair else ""
    return [
        {"kind": kind, "caption": caption.format(looked.chosen.reference),
         "note": note.format(both)}
        for kind, caption, note in wanted
    ]  # fmt: skip


def _slices(
    request: HttpRequest,
    endpoint: Endpoint,
    slices: Sequence[Slice],
    form: SliceForm | None,
    chosen: Chosen,
) -> dict[str, Any]:
    known = _columns_of(endpoint)
    address = (endpoint.environment.name, endpoint.name)
    return {
        "may_slice": may(request.user, "slice.edit", endpoint),
        "slice_form": form or SliceForm(columns=known),
        "slices": [
            {
                "name": one.name,
                "words": " and ".join(_condition(part) for part in one.condition),
                "created_at": one.created_at,
                "url": _query(request, slice=str(one.pk)),
                "retire_url": reverse("endpoint-slice-retire", args=[*address, one.pk]),
                "question": f"Retire the slice {one.name}?",
            }
            for one in slices
        ],
    }


def _condition(part: dict[str, Any]) -> str:
    value = part.get("value", "")
    words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{columns.label_of(part['column'])} {OPS[part['op']]} {words}".strip()


def _columns_of(endpoint: Endpoint) -> list[str]:
    """What a slice can be made of: the columns of its rows, and what every request has."""
    return [*sorted(slice_selectors.known_columns(endpoint), key=_by_role), *FIXED]


def _by_role(column: str) -> tuple[bool, int, str]:
    """Inputs before outputs, those in the order of their places."""
    return column.startswith(OUTPUT), len(column) if column.startswith(OUTPUT) else 0, column


def _chart_query(chosen: Chosen, column: str = "") -> str:
    """What the charts are asked for: the page's own choice, as the API names it."""
    given = {
        "window": chosen.window,
        "until": chosen.until.isoformat() if chosen.until else "",
        "revision": str(chosen.revision.number) if chosen.revision else "",
        "compare": str(chosen.other.number) if chosen.other else chosen.against,
        "slice": str(chosen.slice.pk) if chosen.slice else "",
        "origin": Rollup.From.SHADOW if chosen.copies else "",
        "column": column,
    }
    return urlencode({name: value for name, value in given.items() if value})


def _query(request: HttpRequest, **changes: str) -> str:
    query = request.GET.copy()
    for name, value in changes.items():
        query[name] = value
        if not value:
            del query[name]
    return f"?{query.urlencode()}"


def endpoint_of(request: HttpRequest, environment: str, name: str, verb: str) -> Endpoint:
    known = Endpoint.objects.select_related("model__team", "environment", "stable__version__model")
    found = get_object_or_404(known, environment__name=environment, name=name)
    require(request.user, verb, found)
    return found


def _address(endpoint: Endpoint) -> str:
    return reverse("endpoint-monitoring", args=[endpoint.environment.name, endpoint.name])
