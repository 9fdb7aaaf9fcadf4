from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.accounts.models import User
from apps.accounts.selectors import may, require
from apps.core.errors import Refused
from apps.promotions import changes, selectors, services
from apps.promotions.forms import AnswerForm, RequestForm
from apps.promotions.lifecycle import Answer, Status
from apps.promotions.models import Promotion
from apps.registry.models import Version
from apps.serving.models import Environment

ROWS = Promotion.objects.select_related(
    "version__model__team", "version__registered_by", "build", "environment", "requester",
    "validation", "rollout",
)  # fmt: skip


@login_required
@require_safe
def promotions(request: HttpRequest) -> HttpResponse:
    require(request.user, "view")
    status = request.GET.get("status", "")
    found = selectors.visible_to(request.user).select_related("rollout")
    if status in set(Status):
        found = found.filter(status=status)
    page = Paginator(found, 50).get_page(request.GET.get("page"))
    context = {"page": page, "status": status, "statuses": list(Status)}
    live = request.headers.get("HX-Request")
    template = "promotions/_promotions.html" if live else "promotions/list.html"
    return render(request, template, context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def promotion(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(ROWS, pk=pk)
    require(request.user, "promotion.decide" if request.method == "POST" else "view", found)
    form = AnswerForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and _answered(request, found, form):
        return redirect(found)
    live = request.headers.get("HX-Request")
    template = "promotions/_promotion.html" if live else "promotions/page.html"
    context = {**_shown(request, found), "form": form}
    return render(request, template, context, status=409 if form.errors else 200)


def _answered(request: HttpRequest, promotion: Promotion, form: AnswerForm) -> bool:
    assert isinstance(request.user, User)
    given = form.cleaned_data
    verb = services.approve if given["answer"] == Answer.APPROVE else services.reject
    try:
        after = verb(
            promotion=promotion, actor=request.user, words=given["words"], now=timezone.now(),
            digest=given["digest"],
        )  # fmt: skip
    except Refused as refused:
        form.add_error(None, refused.message)
        return False
    messages.success(request, f"You {'approved' if verb is services.approve else 'rejected'} it")
    if not Status(after.status).is_final:
        messages.info(request, after.reason)
    return True


def _shown(request: HttpRequest, promotion: Promotion) -> dict[str, Any]:
    answers = list(promotion.approvals.select_related("user"))
    stable = selectors.stable_build(promotion.version, promotion.environment)
    run = promotion.validation
    open_ = not Status(promotion.status).is_final
    return {
        "promotion": promotion,
        "title": str(promotion),
        "version": promotion.version,
        "model": promotion.version.model,
        "stable": stable,
        "changes": changes.between(stable.signature, promotion.build.signature) if stable else [],
        "run": run,
        "checks": list(run.checks.all()) if run else [],
        "answers": answers,
        "missing": max(0, promotion.rules.approvals - sum(a.answer == "approve" for a in answers)),
        "deciders": selectors.deciders(promotion)[:20] if open_ else [],
        "is_open": open_,
        "has_answered": any(answer.user_id == request.user.pk for answer in answers),
        "is_requester": promotion.asker_id == request.user.pk
        and not promotion.rules.requester_may_approve,
        "may_decide": may(request.user, "promotion.decide", promotion),
        "may_cancel": may(request.user, "promotion.cancel", promotion),
    }


@login_required
@require_POST
def ask(request: HttpRequest, version_pk: int) -> HttpResponse:
    version = get_object_or_404(Version.objects.select_related("model"), pk=version_pk)
    require(request.user, "promotion.request", version)
    assert isinstance(request.user, User)
    form = RequestForm(request.POST)
    if not form.is_valid():
        return HttpResponseBadRequest("Say which environment it should enter")
    environment = get_object_or_404(Environment, name=form.cleaned_data["environment"])
    asked = services.request(
        version=version, environment=environment, requester=request.user,
        words=form.cleaned_data["words"], now=timezone.now(),
    )  # fmt: skip
    return redirect(asked)


@login_required
@require_POST
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(ROWS, pk=pk)
    require(request.user, "promotion.cancel", found)
    assert isinstance(request.user, User)
    words = request.POST.get("words", "")[:2000]
    services.cancel(promotion=found, actor=request.user, words=words, now=timezone.now())
    messages.success(request, f"The {found} was taken back")
    return redirect(found)
