from base64 import b64encode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.models import User
from apps.accounts.selectors import may, require
from apps.notifications import selectors, services
from apps.notifications.models import Delivery, Mute


@login_required
@require_safe
def mails(request: HttpRequest) -> HttpResponse:
    """One's own mails, and to admins everybody's."""
    require(request.user, "view")
    assert isinstance(request.user, User)
    everybody = may(request.user, "mail.view")
    page = Paginator(selectors.visible_to(request.user), 50).get_page(request.GET.get("page"))
    kinds = Delivery.objects.filter(user=request.user).values_list("kind", flat=True).distinct()
    muted = set(Mute.objects.filter(user=request.user).values_list("kind", flat=True))
    context = {"page": page, "everybody": everybody, "kinds": sorted(set(kinds) | muted)}
    return render(request, "notifications/page.html", {**context, "muted": muted})


@login_required
@require_safe
def mail(request: HttpRequest, pk: int) -> HttpResponse:
    require(request.user, "view")
    assert isinstance(request.user, User)
    found = get_object_or_404(selectors.visible_to(request.user), pk=pk)
    picture = b64encode(bytes(found.picture)).decode() if found.picture else ""
    return render(request, "notifications/mail_page.html", {"mail": found, "picture": picture})


@login_required
@require_POST
def mute(request: HttpRequest) -> HttpResponse:
    require(request.user, "view")
    assert isinstance(request.user, User)
    kind = request.POST.get("kind", "")[:60]
    if "stop" in request.POST:
        services.mute(user=request.user, kind=kind)
        messages.success(request, f"You get no more mails of the kind {kind}")
    else:
        services.unmute(user=request.user, kind=kind)
        messages.success(request, f"You get mails of the kind {kind} again")
    return redirect("mails")
