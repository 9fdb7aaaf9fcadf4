from django.urls import URLPattern, path

from apps.monitoring import api, views

urlpatterns: list[URLPattern] = [
    path("endpoints/<int:pk>/charts/<str:kind>/table", views.chart_table, name="chart-table"),
]
api_urlpatterns: list[URLPattern] = [
    path("endpoints/<int:pk>/charts/<str:kind>", api.Chart.as_view(), name="api-endpoint-chart"),
    path(
        "endpoints/<int:pk>/telemetry/summary", api.Summary.as_view(), name="api-telemetry-summary"
    ),
    path("endpoints/<int:pk>/telemetry/log", api.Log.as_view(), name="api-telemetry-log"),
]
