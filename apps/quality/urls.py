from django.urls import URLPattern, path

from apps.quality import api, views

urlpatterns: list[URLPattern] = [
    path(
        "endpoints/<slug:environment>/<slug:name>/quality", views.quality, name="endpoint-quality"
    ),
]
api_urlpatterns: list[URLPattern] = [
    path("feedback", api.Feedback.as_view(), name="api-feedback"),
    path("endpoints/<int:pk>/quality", api.Quality.as_view(), name="api-endpoint-quality"),
    path(
        "endpoints/<int:pk>/quality/series",
        api.QualitySeries.as_view(),
        name="api-endpoint-quality-series",
    ),
    path(
        "endpoints/<int:pk>/quality/calibration",
        api.QualityCalibration.as_view(),
        name="api-endpoint-quality-calibration",
    ),
    path(
        "endpoints/<int:pk>/quality/by/<str:column>",
        api.QualityBy.as_view(),
        name="api-endpoint-quality-by",
    ),
]
