from django.urls import URLPattern, path

from apps.accounts import api, views

urlpatterns: list[URLPattern] = [
    path("tokens", views.tokens, name="tokens"),
    path("tokens/<int:pk>/revoke", views.revoke_token, name="token-revoke"),
]
api_urlpatterns: list[URLPattern] = [
    path("me", api.Me.as_view()),
    path("teams", api.Teams.as_view()),
    path("tokens", api.Tokens.as_view()),
    path("tokens/<int:pk>", api.TokenDetail.as_view()),
]
