from datetime import timedelta
from typing import Any

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.lifecycle import Role
from apps.accounts.models import Team, Token, User
from apps.accounts.selectors import require, teams_of
from apps.people import selectors, services
from apps.people.serializers import (
    MemberRequestSerializer,
    MemberSerializer,
    MeSerializer,
    NewMemberSerializer,
    NewTokenSerializer,
    TeamSerializer,
    TokenRequestSerializer,
    TokenSerializer,
)


class Me(APIView):
    """Who calls, and what they may."""

    @extend_schema(responses=MeSerializer)
    def get(self, request: Request) -> Response:
        require(request.user, "view")
        user = request.user
        assert isinstance(user, User)
        roles: dict[str, list[str]] = {}
        for membership in user.memberships.select_related("team").order_by("team", "role"):
            roles.setdefault(membership.team.slug, []).append(membership.role)
        scopes = None if user.granted_scopes is None else sorted(user.granted_scopes)
        return Response(
            {"username": user.username, "email": user.email, "scopes": scopes, "roles": roles}
        )


class Teams(generics.ListAPIView[Any]):
    """The teams in which the caller has a role."""

    serializer_class = TeamSerializer

    def get_queryset(self) -> Any:
        require(self.request.user, "view")
        return teams_of(self.request.user)


class Tokens(generics.GenericAPIView[Token]):
    """The caller's own tokens."""

    serializer_class = TokenSerializer

    def get_queryset(self) -> Any:
        require(self.request.user, "token.manage_own")
        return Token.objects.filter(user_id=self.request.user.pk or 0)

    @extend_schema(responses=TokenSerializer(many=True))
    def get(self, request: Request) -> Response:
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(TokenSerializer(page, many=True).data)

    @extend_schema(request=TokenRequestSerializer, responses={201: NewTokenSerializer})
    def post(self, request: Request) -> Response:
        require(request.user, "token.manage_own")
        assert isinstance(request.user, User)
        asked = TokenRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        now = timezone.now()
        token, key = services.issue_token(
            user=request.user,
            name=asked.validated_data["name"],
            scopes=asked.validated_data["scopes"],
            expires_at=now + timedelta(days=asked.validated_data["days"]),
            now=now,
        )
        answer = Response({**TokenSerializer(token).data, "key": key}, status=201)
        answer["Cache-Control"] = "no-store"  # the key is shown once and kept nowhere
        return answer


class TokenDetail(APIView):
    @extend_schema(request=None, responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Revoke it: from now on it opens nothing."""
        require(request.user, "token.manage_own")
        if not request.user.pk:
            raise Http404
        token = get_object_or_404(Token, pk=pk, user_id=request.user.pk)
        assert isinstance(request.user, User)
        services.revoke_token(token=token, actor=request.user, now=timezone.now())
        return Response(status=204)


class Members(APIView):
    """Who is in a team, with which roles."""

    @extend_schema(responses=MemberSerializer(many=True))
    def get(self, request: Request, slug: str) -> Response:
        team = get_object_or_404(Team, slug=slug)
        require(request.user, "view", team)
        return Response(selectors.members_of(team))

    @extend_schema(request=MemberRequestSerializer, responses={201: NewMemberSerializer})
    def post(self, request: Request, slug: str) -> Response:
        """Give somebody a role. With `email`, an account is made for a name that nobody has."""
        team = get_object_or_404(Team, slug=slug)
        require(request.user, "team.manage", team)
        assert isinstance(request.user, User)
        asked = MemberRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        user, welcome = services.add(
            team=team,
            username=asked.validated_data["username"],
            email=asked.validated_data["email"],
            role=Role(asked.validated_data["role"]),
            actor=request.user,
            now=timezone.now(),
        )
        link = request.build_absolute_uri(welcome) if welcome else None
        answer = Response({**selectors.member(team, user), "welcome_link": link}, status=201)
        answer["Cache-Control"] = "no-store"  # whoever has the link chooses the password
        return answer


class MemberRole(APIView):
    @extend_schema(request=None, responses={204: None})
    def delete(self, request: Request, slug: str, username: str, role: str) -> Response:
        """Take the role away."""
        team = get_object_or_404(Team, slug=slug)
        require(request.user, "team.manage", team)
        if role not in set(Role):
            raise Http404
        assert isinstance(request.user, User)
        user = get_object_or_404(User, username=username, memberships__team=team,
                                 memberships__role=role)  # fmt: skip
        services.remove_member(
            team=team, user=user, role=Role(role), actor=request.user, now=timezone.now()
        )
        return Response(status=204)
