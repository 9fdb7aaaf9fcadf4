from django.urls import URLPattern, path

from apps.builds import api

urlpatterns: list[URLPattern] = []
api_urlpatterns: list[URLPattern] = [
    path("builds", api.Builds.as_view(), name="api-builds"),
    path("builds/<int:pk>", api.BuildDetail.as_view(), name="api-build"),
    path("models/<str:name>/versions/<int:number>/builds", api.VersionBuilds.as_view()),
]
