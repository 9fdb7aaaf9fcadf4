from django.urls import URLPattern, path

from apps.rollouts import api, views

urlpatterns: list[URLPattern] = [
    path("rollouts", views.rollouts, name="rollouts"),
    path("rollouts/<int:pk>", views.rollout, name="rollout"),
    path("rollouts/<int:pk>/pause", views.pause, name="rollout-pause"),
    path("rollouts/<int:pk>/resume", views.resume, name="rollout-resume"),
    path("rollouts/<int:pk>/abort", views.abort, name="rollout-abort"),
    path("endpoints/<slug:environment>/<slug:name>/health", views.health, name="endpoint-health"),
    path(
        "endpoints/<slug:environment>/<slug:name>/rollback",
        views.rollback,
        name="endpoint-rollback",
    ),
    path("endpoints/<slug:environment>/<slug:name>/shadow", views.shadow, name="endpoint-shadow"),
    path(
        "endpoints/<slug:environment>/<slug:name>/shadow/<int:number>/stop",
        views.stop_shadow,
        name="endpoint-shadow-stop",
    ),
]
api_urlpatterns: list[URLPattern] = [
    path("rollouts", api.RolloutList.as_view(), name="api-rollouts"),
    path("rollouts/<int:pk>", api.RolloutDetail.as_view(), name="api-rollout"),
    path("rollouts/<int:pk>/pause", api.RolloutPause.as_view(), name="api-rollout-pause"),
    path("rollouts/<int:pk>/resume", api.RolloutResume.as_view(), name="api-rollout-resume"),
    path("rollouts/<int:pk>/abort", api.RolloutAbort.as_view(), name="api-rollout-abort"),
    path(
        "endpoints/<slug:environment>/<slug:name>/rollback",
        api.EndpointRollback.as_view(),
        name="api-endpoint-rollback",
    ),
    path(
        "endpoints/<slug:environment>/<slug:name>/shadow",
        api.EndpointShadow.as_view(),
        name="api-endpoint-shadow",
    ),
]
