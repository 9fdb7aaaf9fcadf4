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

from apps.accounts import services
from apps.accounts.models import Token, User
from apps.accounts.selectors import require, teams_of
from apps.accounts.serializers import (
    MeSerializer,
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
        services.revoke_token(token=token, now=timezone.now())
        return Response(status=204)
