from django.urls import URLPattern, path

from apps.audit import api, views

urlpatterns: list[URLPattern] = [path("events", views.events, name="events")]
api_urlpatterns: list[URLPattern] = [path("events", api.Events.as_view())]
