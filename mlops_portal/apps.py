from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "mlops_portal"

    def ready(self) -> None:
        # Whoever wakes a worker needs the application's broker, not Celery's default one.
        from mlops_portal import celery  # noqa: F401
