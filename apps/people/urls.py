from django.urls import URLPattern, path

from apps.people import api, views

urlpatterns: list[URLPattern] = [
    path("settings", views.people, name="settings"),
    path("settings/<slug:slug>/members", views.add_member, name="member-add"),
    path(
        "settings/<slug:slug>/members/<str:username>/<str:role>/remove",
        views.remove_member,
        name="member-remove",
    ),
    path("welcome/<uidb64>/<token>", views.Welcome.as_view(), name="welcome"),
    path("tokens", views.tokens, name="tokens"),
    path("tokens/<int:pk>/revoke", views.revoke_token, name="token-revoke"),
]
api_urlpatterns: list[URLPattern] = [
    path("me", api.Me.as_view()),
    path("teams", api.Teams.as_view()),
    path("teams/<slug:slug>/members", api.Members.as_view()),
    path("teams/<slug:slug>/members/<str:username>/<str:role>", api.MemberRole.as_view()),
    path("tokens", api.Tokens.as_view()),
    path("tokens/<int:pk>", api.TokenDetail.as_view()),
]
