from django.urls import URLPattern, path

from apps.registry import api
from apps.registry.views import datasets, models, policies, versions

urlpatterns: list[URLPattern] = [
    path("models", models.models, name="models"),
    path("models/<str:name>", models.model, name="model"),
    path("models/<str:name>/policy", policies.policy, name="policy"),
    path("models/<str:name>/datasets/new", datasets.register, name="dataset-register"),
    path("models/<str:name>/versions/<int:number>", versions.version, name="version"),
    path("webhooks/mlflow", api.mlflow_webhook, name="mlflow-webhook"),
]
api_urlpatterns: list[URLPattern] = [
    path("models", api.Models.as_view()),
    path("models/<str:name>", api.ModelDetail.as_view()),
    path("models/<str:name>/versions", api.Versions.as_view()),
    path("models/<str:name>/versions/<int:number>", api.VersionDetail.as_view()),
    path("models/<str:name>/aliases", api.Aliases.as_view()),
    path("models/<str:name>/datasets", api.Datasets.as_view()),
    path("models/<str:name>/policy", api.PolicyDetail.as_view()),
    path("policy-schema", api.PolicySchema.as_view(), name="policy-schema"),
]
