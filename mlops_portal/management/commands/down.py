from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from mlops_portal.stack import control


class Command(BaseCommand):
    help = "Stop everything that `up` started."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            stopped = control.stop(settings.STACK)
        except control.CannotStart as failure:
            raise CommandError(str(failure)) from failure
        self.stdout.write("Everything is stopped" if stopped else "Nothing was running")
