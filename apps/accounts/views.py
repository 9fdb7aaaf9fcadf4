from datetime import timedelta

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from apps.accounts import services
from apps.accounts.forms import TokenForm
from apps.accounts.models import Token, User
from apps.accounts.selectors import require


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    require(request.user, "token.manage_own")
    assert isinstance(request.user, User)
    form, key = TokenForm(request.POST or None), ""
    if request.method == "POST" and form.is_valid():
        now = timezone.now()
        _, key = services.issue_token(
            user=request.user,
            name=form.cleaned_data["name"],
            scopes=form.cleaned_data["scopes"],
            expires_at=now + timedelta(days=form.cleaned_data["days"]),
            now=now,
        )
        form = TokenForm()
    held = request.user.tokens.order_by("-pk")
    context = {"tokens": held, "form": form, "key": key, "now": timezone.now()}
    response = render(request, "accounts/tokens.html", context)
    response["Cache-Control"] = "no-store"  # the key is shown once, to one person
    return response


@login_required
@require_POST
def revoke_token(request: HttpRequest, pk: int) -> HttpResponse:
    require(request.user, "token.manage_own")
    assert isinstance(request.user, User)
    token = get_object_or_404(Token, pk=pk, user=request.user)
    services.revoke_token(token=token, now=timezone.now())
    messages.success(request, f"The token {token.name} opens nothing any more")
    return redirect("tokens")
