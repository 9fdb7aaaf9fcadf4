from django.urls import URLPattern, path

from apps.monitoring import api
from apps.monitoring.views import page, parts

PAGE = "endpoints/<slug:environment>/<slug:name>"
urlpatterns: list[URLPattern] = [
    path("endpoints/<int:pk>/charts/<str:kind>/table", parts.chart_table, name="chart-table"),
    path(f"{PAGE}/monitoring", page.monitoring, name="endpoint-monitoring"),
    path(f"{PAGE}/drift", parts.drift, name="endpoint-drift"),
    path(f"{PAGE}/slices", page.make_slice, name="endpoint-slices"),
    path(f"{PAGE}/slices/<int:slice_pk>/retire", page.retire_slice, name="endpoint-slice-retire"),
]
api_urlpatterns: list[URLPattern] = [
    path("endpoints/<int:pk>/charts/<str:kind>", api.Chart.as_view(), name="api-endpoint-chart"),
    path("endpoints/<int:pk>/drift", api.Drift.as_view(), name="api-endpoint-drift"),
    path("endpoints/<int:pk>/slices", api.SliceList.as_view(), name="api-endpoint-slices"),
    path(
        "endpoints/<int:pk>/slices/<int:slice_pk>",
        api.SliceDetail.as_view(),
        name="api-endpoint-slice",
    ),
    path(
        "endpoints/<int:pk>/telemetry/summary", api.Summary.as_view(), name="api-telemetry-summary"
    ),
]
