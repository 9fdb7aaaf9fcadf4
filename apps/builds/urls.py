from django.urls import URLPattern, path

from apps.builds import api, views

urlpatterns: list[URLPattern] = [
    path("builds/<int:pk>", views.build, name="build"),
    path("versions/<int:version_pk>/build", views.start, name="build-start"),
]
api_urlpatterns: list[URLPattern] = [
    path("builds", api.Builds.as_view(), name="api-builds"),
    path("builds/<int:pk>", api.BuildDetail.as_view(), name="api-build"),
    path("models/<str:name>/versions/<int:number>/builds", api.VersionBuilds.as_view()),
]
