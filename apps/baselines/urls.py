from django.urls import URLPattern, path

from apps.baselines import api, views

urlpatterns: list[URLPattern] = [
    path("versions/<int:version_pk>/baseline", views.baseline, name="version-baseline"),
    path("versions/<int:version_pk>/baseline/freeze", views.freeze, name="baseline-freeze"),
]
api_urlpatterns: list[URLPattern] = [
    path("models/<str:name>/versions/<int:number>/baseline", api.VersionBaseline.as_view()),
]
