from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from apps.accounts.selectors import may, require
from apps.validation import evidence
from apps.validation.models import ValidationRun


@login_required
@require_safe
def validation(request: HttpRequest, pk: int) -> HttpResponse:
    rows = ValidationRun.objects.select_related(
        "version__model", "build", "environment", "policy", "dataset", "job",
        "compared_with__version__model",
    )  # fmt: skip
    run = get_object_or_404(rows, pk=pk)
    require(request.user, "view", run)
    checks = [
        (check, evidence.parts(check.evidence), evidence.axis(check.evidence))
        for check in run.checks.all()
    ]
    context = {
        "run": run,
        "stop": f"Cancel the checks of {run.version} for {run.environment}?",
        "model": run.version.model,
        "checks": checks,
        "asked": run.promotions.select_related("environment"),
        "may_cancel": may(request.user, "job.cancel", run),
    }
    live = request.headers.get("HX-Request")
    return render(request, "validation/_run.html" if live else "validation/page.html", context)
