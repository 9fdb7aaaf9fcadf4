from django.apps import AppConfig


class ValidationConfig(AppConfig):
    name = "apps.validation"

    def ready(self) -> None:
        from apps.jobs.services import HANDLERS
        from apps.validation import runner, services

        if services.KIND not in HANDLERS:  # a second set-up in one process
            HANDLERS.add(services.KIND, ("validation.run", runner.work, services.end))
