from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.models import User
from apps.accounts.selectors import may, require
from apps.builds import services
from apps.builds.models import Build
from apps.registry.models import Version

STEPS = ("fetch", "lock", "install", "seal", "probe")  # JSON columns keep no order


@login_required
@require_safe
def build(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Build.objects.select_related("version__model", "job"), pk=pk)
    require(request.user, "view", found)
    context = {
        "build": found,
        "again": f"Build {found.version} again?",
        "stop": f"Cancel build {found.number} of {found.version}?",
        "version": found.version,
        "model": found.version.model,
        "durations": sorted(found.durations.items(), key=lambda step: _place(step[0])),
        "bytes": sum(file.get("bytes", 0) for file in found.files.values()),
        "may_build": may(request.user, "build.start", found),
        "may_cancel": may(request.user, "job.cancel", found),
    }
    live = request.headers.get("HX-Request")
    return render(request, "builds/_build.html" if live else "builds/page.html", context)


@login_required
@require_POST
def start(request: HttpRequest, version_pk: int) -> HttpResponse:
    version = get_object_or_404(Version.objects.select_related("model"), pk=version_pk)
    require(request.user, "build.start", version)
    assert isinstance(request.user, User)
    queued = services.start(version=version, actor=request.user, now=timezone.now())
    messages.success(request, f"Build {queued.number} of {version} is queued")
    return redirect(queued)


def _place(step: str) -> int:
    return STEPS.index(step) if step in STEPS else len(STEPS)
