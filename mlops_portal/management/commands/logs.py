from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "The last lines of one process's log, or of all."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?")
        parser.add_argument("--lines", type=int, default=40)

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = settings.STACK.logs
        known = {path.stem: path for path in sorted(folder.glob("*.log"))}
        name = options["name"]
        if name and name not in known:
            raise CommandError(f"No log of {name!r}; there are: {', '.join(known) or 'none'}")
        for each in [name] if name else known:
            lines = known[each].read_text(errors="replace").splitlines()[-options["lines"] :]
            self.stdout.write(self.style.MIGRATE_HEADING(f"== {each}  ({known[each]})"))
            for line in lines:
                self.stdout.write(line)
