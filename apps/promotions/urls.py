from django.urls import URLPattern, path

from apps.promotions import api, views

urlpatterns: list[URLPattern] = [
    path("promotions", views.promotions, name="promotions"),
    path("promotions/<int:pk>", views.promotion, name="promotion"),
    path("promotions/<int:pk>/cancel", views.cancel, name="promotion-cancel"),
    path("versions/<int:version_pk>/promote", views.ask, name="promotion-request"),
]
api_urlpatterns: list[URLPattern] = [
    path("promotions", api.PromotionList.as_view(), name="api-promotions"),
    path("promotions/<int:pk>", api.PromotionDetail.as_view(), name="api-promotion"),
    path(
        "promotions/<int:pk>/approve", api.PromotionApprove.as_view(), name="api-promotion-approve"
    ),
    path("promotions/<int:pk>/reject", api.PromotionReject.as_view(), name="api-promotion-reject"),
    path("promotions/<int:pk>/cancel", api.PromotionCancel.as_view(), name="api-promotion-cancel"),
]
