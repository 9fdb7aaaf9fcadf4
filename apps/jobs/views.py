from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.models import User
from apps.accounts.selectors import require
from apps.jobs import services
from apps.jobs.models import Job


@login_required
@require_safe
def lines(request: HttpRequest, pk: int) -> HttpResponse:
    """The log of a job, as a part of the page of what it works on."""
    job = get_object_or_404(Job, pk=pk)
    require(request.user, "view", job)
    return render(request, "jobs/_lines.html", {"job": job, "lines": job.lines.all()})


@login_required
@require_POST
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    job = get_object_or_404(Job, pk=pk)
    require(request.user, "job.cancel", job)
    assert isinstance(request.user, User)
    services.cancel(job=job, actor=request.user, now=timezone.now())
    if request.headers.get("HX-Request"):
        return lines_of(request, pk)
    return redirect(request.POST.get("next", "") if _is_ours(request) else "home")


def lines_of(request: HttpRequest, pk: int) -> HttpResponse:
    job = get_object_or_404(Job, pk=pk)
    return render(request, "jobs/_lines.html", {"job": job, "lines": job.lines.all()})


def _is_ours(request: HttpRequest) -> bool:
    """An address from the form may not lead a person to another site."""
    target = request.POST.get("next", "")
    return target.startswith("/") and not target.startswith("//") and "\\" not in target
