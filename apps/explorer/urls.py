from django.urls import URLPattern, path

from apps.explorer import api, views

urlpatterns: list[URLPattern] = [
    path("endpoints/<slug:environment>/<slug:name>/log", views.log, name="endpoint-log"),
    path(
        "endpoints/<slug:environment>/<slug:name>/replays",
        views.start_replay,
        name="endpoint-replays",
    ),
    # An id is the caller's own text and may hold slashes.
    path(
        "endpoints/<slug:environment>/<slug:name>/log/<path:request_id>",
        views.one,
        name="endpoint-request",
    ),
    path("searches/<int:pk>/cancel", views.cancel, name="search-cancel"),
    path("replays/<int:pk>", views.replay, name="replay"),
    path("replays/<int:pk>/cancel", views.cancel_replay, name="replay-cancel"),
]
api_urlpatterns: list[URLPattern] = [
    path("endpoints/<int:pk>/telemetry/log", api.OneRequest.as_view(), name="api-telemetry-log"),
    path("endpoints/<int:pk>/searches", api.Searches.as_view(), name="api-endpoint-searches"),
    path("searches/<int:pk>", api.SearchDetail.as_view(), name="api-search"),
    path("searches/<int:pk>/download", api.SearchDownload.as_view(), name="api-search-download"),
    path("endpoints/<int:pk>/replays", api.Replays.as_view(), name="api-endpoint-replays"),
    path("replays/<int:pk>", api.ReplayDetail.as_view(), name="api-replay"),
    path("replays/<int:pk>/download", api.ReplayDownload.as_view(), name="api-replay-download"),
]
