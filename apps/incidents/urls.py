from django.urls import URLPattern, path

from apps.incidents import api, views

ENDPOINT = "endpoints/<slug:environment>/<slug:name>"

urlpatterns: list[URLPattern] = [
    path("incidents", views.incidents, name="incidents"),
    path("incidents/<int:pk>", views.incident, name="incident"),
    path("incidents/<int:pk>/chart/table", views.chart_table, name="incident-chart-table"),
    path("incidents/<int:pk>/acknowledge", views.acknowledge, name="incident-acknowledge"),
    path("incidents/<int:pk>/assign", views.assign, name="incident-assign"),
    path("incidents/<int:pk>/mute", views.mute, name="incident-mute"),
    path("incidents/<int:pk>/resolve", views.resolve, name="incident-resolve"),
    path("incidents/<int:pk>/reopen", views.reopen, name="incident-reopen"),
    path("incidents/<int:pk>/notes", views.note, name="incident-note"),
    path(f"{ENDPOINT}/incidents", views.endpoint, name="endpoint-incidents"),
    path(f"{ENDPOINT}/monitors/<str:monitor>/mute", views.mute_monitor, name="monitor-mute"),
]
api_urlpatterns: list[URLPattern] = [
    path("incidents", api.IncidentList.as_view(), name="api-incidents"),
    path("incidents/<int:pk>", api.IncidentDetail.as_view(), name="api-incident"),
    path("incidents/<int:pk>/chart", api.IncidentChart.as_view(), name="api-incident-chart"),
    path(
        "incidents/<int:pk>/acknowledge",
        api.IncidentAcknowledge.as_view(),
        name="api-incident-acknowledge",
    ),
    path("incidents/<int:pk>/assign", api.IncidentAssign.as_view(), name="api-incident-assign"),
    path("incidents/<int:pk>/mute", api.IncidentMute.as_view(), name="api-incident-mute"),
    path("incidents/<int:pk>/resolve", api.IncidentResolve.as_view(), name="api-incident-resolve"),
    path("incidents/<int:pk>/reopen", api.IncidentReopen.as_view(), name="api-incident-reopen"),
    path("incidents/<int:pk>/notes", api.IncidentNotes.as_view(), name="api-incident-notes"),
    path(
        "endpoints/<int:pk>/monitors", api.EndpointMonitors.as_view(), name="api-endpoint-monitors"
    ),
    path(
        "endpoints/<int:pk>/monitors/<str:monitor>/mute",
        api.EndpointMonitorMute.as_view(),
        name="api-monitor-mute",
    ),
]
