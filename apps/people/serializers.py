from typing import Any

from rest_framework import serializers

from apps.accounts.lifecycle import Role, Scope
from apps.accounts.models import Team, Token


class TokenSerializer(serializers.ModelSerializer[Token]):
    class Meta:
        model = Token
        fields: tuple[str, ...] = (
                  "id", "name", "prefix", "scopes", "created_at", "expires_at", "last_used_at",
                  "revoked_at")  # fmt: skip
        read_only_fields = fields


class TokenRequestSerializer(serializers.Serializer[dict[str, Any]]):
    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=[s.value for s in Scope]), min_length=1
    )
    days = serializers.IntegerField(min_value=1, max_value=366, default=90)


class NewTokenSerializer(TokenSerializer):
    key = serializers.CharField(help_text="Shown this once; only its hash is kept")

    class Meta(TokenSerializer.Meta):
        fields = (*TokenSerializer.Meta.fields, "key")
        read_only_fields = fields


class MeSerializer(serializers.Serializer[dict[str, Any]]):
    username = serializers.CharField()
    email = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField(), allow_null=True)
    roles = serializers.DictField(child=serializers.ListField(child=serializers.CharField()))


class TeamSerializer(serializers.ModelSerializer[Team]):
    class Meta:
        model = Team
        fields = ("id", "name", "slug")
        read_only_fields = fields


class MemberSerializer(serializers.Serializer[dict[str, Any]]):
    username = serializers.CharField()
    name = serializers.CharField(allow_blank=True)
    email = serializers.CharField(allow_blank=True)
    is_active = serializers.BooleanField()
    roles = serializers.ListField(child=serializers.ChoiceField(choices=[r.value for r in Role]))


class NewMemberSerializer(MemberSerializer):
    welcome_link = serializers.CharField(
        allow_null=True,
        help_text="Of a new account: where its person chooses a password. Shown this once; works "
        "once, for three days. null: the account existed",
    )


class MemberRequestSerializer(serializers.Serializer[dict[str, Any]]):
    username = serializers.CharField(max_length=150)
    role = serializers.ChoiceField(choices=[r.value for r in Role])
    email = serializers.EmailField(
        default="", allow_blank=True, help_text="For a person who has no account yet"
    )
