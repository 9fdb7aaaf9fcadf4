from django.urls import URLPattern, path

from apps.registry import api

urlpatterns: list[URLPattern] = [
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

