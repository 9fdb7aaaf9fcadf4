from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from apps.accounts.selectors import require
from apps.audit import selectors
from apps.audit.forms import EventFilter


@login_required
@require_safe
def events(request: HttpRequest) -> HttpResponse:
    require(request.user, "view")
    form = EventFilter(request.GET)
    found = selectors.visible_to(request.user)
    if form.is_valid():
        found = form.narrow(found)
    page = Paginator(found, 50).get_page(request.GET.get("page"))
    template = "audit/_events.html" if request.headers.get("HX-Request") else "audit/page.html"
    return render(request, template, {"page": page, "form": form})
