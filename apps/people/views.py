from datetime import timedelta

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import PasswordResetConfirmView
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.accounts.lifecycle import Role
from apps.accounts.models import Team, Token, User
from apps.accounts.selectors import require, teams_of
from apps.core.errors import Refused
from apps.people import selectors, services
from apps.people.forms import MemberForm, TokenForm


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
    response = render(request, "people/tokens.html", context)
    response["Cache-Control"] = "no-store"  # the key is shown once, to one person
    return response


@login_required
@require_POST
def revoke_token(request: HttpRequest, pk: int) -> HttpResponse:
    require(request.user, "token.manage_own")
    assert isinstance(request.user, User)
    token = get_object_or_404(Token, pk=pk, user=request.user)
    services.revoke_token(token=token, actor=request.user, now=timezone.now())
    messages.success(request, f"The token {token.name} opens nothing any more")
    return redirect("tokens")


@login_required
@require_safe
def people(request: HttpRequest) -> HttpResponse:
    """The teams that the reader manages, with everybody in them."""
    require(request.user, "team.manage")
    return _people(request, None, MemberForm())


@login_required
@require_POST
def add_member(request: HttpRequest, slug: str) -> HttpResponse:
    team = get_object_or_404(Team, slug=slug)
    require(request.user, "team.manage", team)
    assert isinstance(request.user, User)
    form = MemberForm(request.POST)
    if not form.is_valid():
        return _people(request, team, form)
    try:
        user, welcome = services.add(
            team=team,
            username=form.cleaned_data["username"],
            email=form.cleaned_data["email"],
            role=Role(form.cleaned_data["role"]),
            actor=request.user,
            now=timezone.now(),
        )
    except Refused as refused:
        form.add_error(None, refused.message)
        return _people(request, team, form)
    if welcome:
        return _people(request, team, MemberForm(), user, request.build_absolute_uri(welcome))
    messages.success(request, f"{user.username} is {form.cleaned_data['role']} of {team.name}")
    return redirect("settings")


@login_required
@require_POST
def remove_member(request: HttpRequest, slug: str, username: str, role: str) -> HttpResponse:
    team = get_object_or_404(Team, slug=slug)
    require(request.user, "team.manage", team)
    if role not in set(Role):
        raise Http404
    assert isinstance(request.user, User)
    user = get_object_or_404(User, username=username)
    services.remove_member(
        team=team, user=user, role=Role(role), actor=request.user, now=timezone.now()
    )
    messages.success(request, f"{username} is no {Role(role).label} of {team.name} any more")
    return redirect("settings")


class Welcome(PasswordResetConfirmView):
    """A new person chooses their password."""

    template_name = "people/welcome.html"
    success_url = reverse_lazy("home")
    post_reset_login = True
    title = "Choose your password"


def _people(
    request: HttpRequest,
    team: Team | None,
    form: MemberForm,
    new: User | None = None,
    link: str = "",
) -> HttpResponse:
    """The page; `team` is the one whose form was sent."""
    teams = [
        {
            "team": one,
            "members": selectors.members_of(one),
            "form": form if one == team else MemberForm(),
        }
        for one in teams_of(request.user, "team.manage").order_by("name")
    ]
    context = {"teams": teams, "new": new, "link": link, "roles": list(Role)}
    status = 422 if form.is_bound and form.errors else 200
    response = render(request, "people/people.html", context, status=status)
    response["Cache-Control"] = "no-store"  # the link of a welcome is shown once
    return response
