from django.urls import URLPattern, path

from apps.rollouts import api

urlpatterns: list[URLPattern] = []
api_urlpatterns: list[URLPattern] = [
    path("rollouts", api.RolloutList.as_view(), name="api-rollouts"),
    path("rollouts/<int:pk>", api.RolloutDetail.as_view(), name="api-rollout"),
    path("rollouts/<int:pk>/pause", api.RolloutPause.as_view(), name="api-rollout-pause"),
    path("rollouts/<int:pk>/resume", api.RolloutResume.as_view(), name="api-rollout-resume"),
    path("rollouts/<int:pk>/abort", api.RolloutAbort.as_view(), name="api-rollout-abort"),
]
