from django.urls import URLPattern, path

from apps.serving import api, views

urlpatterns: list[URLPattern] = [
    path("endpoints", views.endpoints, name="endpoints"),
    path("endpoints/<slug:environment>/<slug:name>", views.endpoint, name="endpoint"),
]
api_urlpatterns: list[URLPattern] = [
    path("environments", api.EnvironmentList.as_view(), name="api-environments"),
    path("endpoints", api.EndpointList.as_view(), name="api-endpoints"),
    path(
        "endpoints/<slug:environment>/<slug:name>",
        api.EndpointDetail.as_view(),
        name="api-endpoint",
    ),
    path(
        "endpoints/<slug:environment>/<slug:name>/revisions/<int:number>/key",
        api.RevisionKey.as_view(),
        name="api-revision-key",
    ),
    path("models/<str:name>/served", api.ServedView.as_view(), name="api-model-served"),
]
