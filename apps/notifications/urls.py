from django.urls import URLPattern, path

from apps.notifications import api, views

urlpatterns: list[URLPattern] = [
    path("mails", views.mails, name="mails"),
    path("mails/<int:pk>", views.mail, name="mail"),
    path("mails/mute", views.mute, name="mail-mute"),
]
api_urlpatterns: list[URLPattern] = [path("mails", api.Mails.as_view())]
