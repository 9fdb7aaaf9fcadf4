from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, overload

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.accounts.models import User
from apps.accounts.selectors import may, require
from apps.explorer import forms, replayer, results, selectors, services, whole
from apps.explorer.lifecycle import LONGEST, MOST_ROWS, State
from apps.explorer.models import Replay, Search
from apps.explorer.question import ALWAYS, SearchRefused
from apps.serving.models import Endpoint

PAGE_ROWS = 50
MOST_OFFERED = 300  # columns that are offered in a list
FIRST_OUTPUTS = 3
RECENT = 10
LONGEST_ID = 500  # that can be asked for again
MOST_ADDRESS = 4_000  # characters: servers and mails cut longer ones
FIXED = ("at", "id", "revision", "version", "status", "latency_us", "caller")


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def log(request: HttpRequest, environment: str, name: str) -> HttpResponse:
    """The prediction log of an endpoint: what to look for, and what was found."""
    verb = "log.search" if request.method == "POST" else "view"
    endpoint = _endpoint(request, environment, name, verb)
    now = timezone.now()
    search = _search(request, endpoint)
    data = request.POST if request.method == "POST" else _asked(request, search)
    form = forms.SearchForm(endpoint, data)
    is_valid = data is not None and form.is_valid()
    known = selectors.columns(endpoint, *form.window(now))
    if request.method == "POST" and is_valid:
        started = _start(request, endpoint, form, known)
        if started is not None:
            return redirect(_address(endpoint, started))
    context = {
        **_about(request, endpoint, search),
        "form": form,
        "known": [*ALWAYS, *known][:MOST_OFFERED],
        "ops": forms.OP_WORDS,
        "conditions": [*(forms.written(data) if data else []), ("", "eq", "")],
        "waiting": selectors.waiting_rows(endpoint),
        "has_log": selectors.has_log(endpoint),
        "recent": _recent(endpoint),
    }
    live = request.headers.get("HX-Request")
    template = "explorer/_search.html" if live and search else "explorer/log.html"
    return render(request, template, context, status=400 if form.errors else 200)


def _start(
    request: HttpRequest, endpoint: Endpoint, form: forms.SearchForm, known: dict[str, str]
) -> Search | None:
    assert isinstance(request.user, User)
    try:
        question = form.question(known, timezone.now())
        return services.ask(
            endpoint=endpoint, question=question, actor=request.user, now=timezone.now()
        )
    except SearchRefused as refused:
        form.add_error(None, refused.message)
        return None


def _asked(request: HttpRequest, search: Search | None) -> Any:
    """What the address asks; a search that is shown without more is what it asked."""
    named = {*forms.SearchForm.base_fields, "column"}
    if named & request.GET.keys():
        return request.GET
    if search is None:
        return None
    return QueryDict(forms.address(search.question))


def _address(endpoint: Endpoint, search: Search) -> str:
    page = reverse("endpoint-log", args=[endpoint.environment.name, endpoint.name])
    asked = forms.address(search.question)
    if len(asked) > MOST_ADDRESS:  # the search's row has it, as long as there is one
        return f"{page}?search={search.pk}#found"
    return f"{page}?{asked}&search={search.pk}#found"


def _search(request: HttpRequest, endpoint: Endpoint) -> Search | None:
    asked = request.GET.get("search", "")
    if not (asked.isascii() and asked.isdigit() and len(asked) < 19):
        return None
    return selectors.searches(endpoint).filter(pk=int(asked)).first()


def _recent(endpoint: Endpoint) -> list[tuple[Search, str]]:
    return [(one, _address(endpoint, one)) for one in selectors.searches(endpoint)[:RECENT]]


def _about(request: HttpRequest, endpoint: Endpoint, search: Search | None) -> dict[str, Any]:
    about: dict[str, Any] = {"endpoint": endpoint, "model": endpoint.model, "search": search}
    if search is None:
        return about
    search.endpoint = endpoint
    is_final = State(search.state).is_final
    about |= {
        "is_final": is_final,
        "may_stop": _may_stop(request, search),
        "most_rows": MOST_ROWS,
        "percent": 100 * search.files_done // max(search.files_total, 1),
        "revisions": dict(endpoint.revisions.values_list("pk", "number")),
        "targets": selectors.can_be_asked(endpoint)
        if search.has_result and may(request.user, "log.replay", endpoint)
        else [],
        "replays": selectors.replays(endpoint).filter(search=search)[:RECENT] if is_final else [],
        "topic": f"search:{search.pk}",
    }
    return about | (_table(request, search) if search.has_result else {})


def _table(request: HttpRequest, search: Search) -> dict[str, Any]:
    path = results.folder() / search.result_path
    try:
        names = results.columns(path)
        rows = Rows(path, request.GET.get("sort", ""))
        page = Paginator(rows, PAGE_ROWS).get_page(request.GET.get("page"))
    except results.ResultGone:
        return {}
    features = results.features(names)
    outputs = [name for name in features if name.startswith("out.")][:FIRST_OUTPUTS]
    asked = [one["column"] for one in search.question["conditions"]]
    wanted = request.GET.getlist("show") or [*outputs, *asked]
    shown = [name for name in dict.fromkeys(wanted) if name in features]
    return {
        "page": page,
        "shown": shown,
        "offered": [(name, name in shown) for name in features[:MOST_OFFERED]],
        "kept": [(key, value) for key, values in request.GET.lists() for value in values
                 if key not in ("show", "page")],
        "lines": [(row, [(name, row[name]) for name in shown]) for row in page.object_list],
    }  # fmt: skip


class Rows(Sequence[dict[str, Any]]):
    """A result's rows, of which only those of a page are read."""

    def __init__(self, path: Any, sort: str) -> None:
        self._path, self._sort = path, sort

    def __len__(self) -> int:
        return results.page(self._path, start=0, count=0).total

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, int):
            return self[index : index + 1][0]
        start, stop = index.start or 0, index.stop
        return results.page(self._path, start=start, count=stop - start, sort=self._sort).rows


@login_required
@require_safe
def one(request: HttpRequest, environment: str, name: str, request_id: str) -> HttpResponse:
    """One request whole: inputs, every answer, what differs, its labels."""
    endpoint = _endpoint(request, environment, name, "view")
    # Whole, however long: the beginning of an id may be the id of another request.
    found = selectors.request(endpoint, request_id, timezone.now() - LONGEST, near=_moment(request))
    can_be_replayed = len(request_id) <= LONGEST_ID and "\0" not in request_id
    context = {
        "endpoint": endpoint,
        "model": endpoint.model,
        "request_id": request_id,
        "whole": found.whole,
        "not_before": found.not_before,
        "revisions": dict(endpoint.revisions.values_list("pk", "number")),
        "labels": found.labels,
        "days": LONGEST.days,
        "targets": selectors.can_be_asked(endpoint)
        if found.whole and can_be_replayed and may(request.user, "log.replay", endpoint)
        else [],
        "replays": selectors.replays(endpoint).filter(request_id=request_id)[:RECENT]
        if can_be_replayed
        else [],
    }
    return render(request, "explorer/one.html", context)


def _moment(request: HttpRequest) -> datetime | None:
    """When the request came, where whoever links to it knows: its files are found at once."""
    try:
        return datetime.fromtimestamp(int(request.GET.get("at", "")), UTC)
    except (ValueError, OverflowError, OSError):
        return None


@login_required
@require_POST
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    found = Search.objects.select_related("endpoint__model", "endpoint__environment", "job")
    return _cancel(request, get_object_or_404(found, pk=pk))


@login_required
@require_POST
def cancel_replay(request: HttpRequest, pk: int) -> HttpResponse:
    found = Replay.objects.select_related("endpoint__model", "endpoint__environment", "job")
    return _cancel(request, get_object_or_404(found, pk=pk))


def _cancel(request: HttpRequest, row: Search | Replay) -> HttpResponse:
    require(request.user, "log.search", row)
    if not _may_stop(request, row):
        require(request.user, "job.cancel", row)
    assert isinstance(request.user, User)
    services.cancel(row=row, actor=request.user, now=timezone.now())
    return redirect(row)


def _may_stop(request: HttpRequest, row: Search | Replay) -> bool:
    """Whoever asked may stop it; who may cancel other work may stop this too."""
    return row.asked_by_id == request.user.pk or may(request.user, "job.cancel", row)


@login_required
@require_POST
def start_replay(request: HttpRequest, environment: str, name: str) -> HttpResponse:
    endpoint = _endpoint(request, environment, name, "log.replay")
    form = forms.ReplayForm(request.POST)
    if not form.is_valid():
        return HttpResponseBadRequest("Say which revision, and which search or request")
    asked = form.cleaned_data
    assert isinstance(request.user, User)
    made = services.replay(
        endpoint=endpoint,
        revision=get_object_or_404(endpoint.revisions, number=asked["revision"]),
        search=get_object_or_404(selectors.searches(endpoint), pk=asked["search"])
        if asked["search"]
        else None,
        request_id=asked["request_id"],
        actor=request.user,
        now=timezone.now(),
    )
    return redirect(made)


@login_required
@require_safe
def replay(request: HttpRequest, pk: int) -> HttpResponse:
    """How a replay went: the counts, and requests side by side, what differs first."""
    rows = Replay.objects.select_related(
        "endpoint__model", "endpoint__environment", "revision__version", "asked_by", "job", "search"
    )
    found = get_object_or_404(rows, pk=pk)
    require(request.user, "view", found)
    context = {
        "replay": found,
        "endpoint": found.endpoint,
        "model": found.endpoint.model,
        "is_final": State(found.state).is_final,
        "percent": 100 * found.done // max(found.total, 1),
        "topic": f"replay:{found.pk}",
        "may_stop": found.job is not None and _may_stop(request, found),
        **_replayed(request, found),
    }
    live = request.headers.get("HX-Request")
    return render(request, "explorer/_replay.html" if live else "explorer/replay.html", context)


def _replayed(request: HttpRequest, found: Replay) -> dict[str, Any]:
    if not found.result_path:
        return {}
    path = results.folder() / found.result_path
    number = request.GET.get("page", "1")
    page = Paginator(range(found.done), PAGE_ROWS).get_page(number)
    try:
        part = results.page(
            path, start=(page.number - 1) * PAGE_ROWS, count=PAGE_ROWS, bodies=True,
            first=replayer.WORST_FIRST,
        )  # fmt: skip
    except results.ResultGone:
        return {}
    rows = [
        row | {name: _pretty(row[name]) for name in ("request", "before", "after")}
        for row in part.rows
    ]
    return {"page": page, "rows": rows}


def _pretty(text: str | None) -> str:
    try:
        return whole.pretty(results.read_json(text))
    except ValueError:
        return text or ""


def _endpoint(request: HttpRequest, environment: str, name: str, verb: str) -> Endpoint:
    known = Endpoint.objects.select_related("model", "environment")
    found = get_object_or_404(known, environment__name=environment, name=name)
    require(request.user, verb, found)
    return found
