from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "mlops_portal"
