from django.apps import AppConfig


class BuildsConfig(AppConfig):
    name = "apps.builds"

    def ready(self) -> None:
        from apps.builds import runner, services
        from apps.jobs.services import HANDLERS

        if services.KIND not in HANDLERS:  # a second set-up in one process
            HANDLERS.add(services.KIND, ("builds.run", runner.work, services.end))
