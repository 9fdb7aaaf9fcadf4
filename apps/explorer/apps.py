from django.apps import AppConfig


class ExplorerConfig(AppConfig):
    name = "apps.explorer"

    def ready(self) -> None:
        from apps.explorer import replayer, runner, services
        from apps.jobs.services import HANDLERS

        if services.SEARCH not in HANDLERS:  # a second set-up in one process
            HANDLERS.add(services.SEARCH, ("explorer.run", runner.work, services.end_search))
            HANDLERS.add(
                services.REPLAY, ("explorer.replay.run", replayer.work, services.end_replay)
            )
