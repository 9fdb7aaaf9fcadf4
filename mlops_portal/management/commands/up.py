from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from mlops_portal.stack import bringup, control


class Command(BaseCommand):
    help = "Start everything and return when pages, gateway and registry answer."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            bringup.up(settings.STACK, self.stdout.write)
        except control.CannotStart as failure:
            raise CommandError(str(failure)) from failure
        for line in bringup.greeting(settings.STACK):
            self.stdout.write(self.style.SUCCESS(line))
