"""Pages that show several apps at once."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from apps.accounts.models import User
from apps.accounts.selectors import require, teams_of
from apps.registry import selectors as registry
from mlops_portal import overview


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """For load balancers and for `portal up`: this process answers."""
    return JsonResponse({"ok": True})


@login_required
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    require(request.user, "view")
    assert isinstance(request.user, User)
    seen = overview.of(request.user, now=timezone.now(), asked=request.GET)
    template = "home/_overview.html" if request.headers.get("HX-Request") else "home/page.html"
    return render(request, template, {"overview": seen, "teams": teams_of(request.user)})


@login_required
@require_safe
def search(request: HttpRequest) -> HttpResponse:
    require(request.user, "view")
    words = request.GET.get("q", "").strip()
    models = registry.search(request.user, words)
    if len(models) == 1 and models[0].name.lower() == words.lower():
        return redirect(models[0])
    return render(request, "home/search.html", {"words": words, "models": models})


@login_required
@require_safe
def styleguide(request: HttpRequest) -> HttpResponse:
    require(request.user, "view")
    return render(request, "core/styleguide.html")
