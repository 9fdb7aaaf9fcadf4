from django.urls import URLPattern, path

from apps.validation import api, views

urlpatterns: list[URLPattern] = [
    path("validations/<int:pk>", views.validation, name="validation"),
]
api_urlpatterns: list[URLPattern] = [
    path("validations", api.Validations.as_view(), name="api-validations"),
    path("validations/<int:pk>", api.ValidationDetail.as_view(), name="api-validation"),
]
