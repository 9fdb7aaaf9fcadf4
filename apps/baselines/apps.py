from django.apps import AppConfig


class BaselinesConfig(AppConfig):
    name = "apps.baselines"

    def ready(self) -> None:
        from apps.baselines import runner, services
        from apps.jobs.services import HANDLERS

        if services.KIND not in HANDLERS:  # a second set-up in one process
            HANDLERS.add(services.KIND, ("baselines.run", runner.work, services.end))
