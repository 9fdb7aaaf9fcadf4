import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from django.utils import timezone

from mlops_portal.demo import people, processes, story
from mlops_portal.demo.panel import NotObserved
from mlops_portal.demo.processes import Callers
from mlops_portal.demo.report import TITLES, Report
from mlops_portal.management.commands.status import tree_memory
from mlops_portal.stack import bringup, control
from mlops_portal.stack.config import Stack


class Command(BaseCommand):
    help = "Start everything and play the main path with real models on real data."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--exit", action="store_true", help="stop at the end, with 0 or 1")
        parser.add_argument("--report", type=Path, help="write what was seen as JSON")
        parser.add_argument("--rate", type=float, default=100, help="requests a second in all")

    def handle(self, *args: Any, **options: Any) -> None:
        stack: Stack = settings.STACK
        report = Report(say=self.stdout.write)
        started = time.monotonic()
        try:
            client = bringup.up(stack, self.stdout.write)
            report.measure(
                start_seconds=round(time.monotonic() - started, 1),
                memory_at_rest_bytes=sum(tree_memory(p.pid) for p in client.processes() if p.pid),
            )
            for line in bringup.greeting(stack):
                self.stdout.write(self.style.SUCCESS(line))
            self.play(stack, report, options)
        except (NotObserved, control.CannotStart) as failure:
            report.failure = str(failure)
            self.stderr.write(self.style.ERROR(report.failure))
        finally:
            report.measure(demo_seconds=round(time.monotonic() - started, 1))
            if options["report"]:
                report.write(options["report"])
            if options["exit"]:
                connections.close_all()
                control.stop(stack)
        for number, title in TITLES.items():
            word = "observed    " if number in report.points else "NOT observed"
            self.stdout.write(f"{number}. {word}  {title}")
        if not report.all_observed:
            raise CommandError(report.failure or "Not every point was observed", returncode=1)
        if not options["exit"]:
            self.stdout.write("The panel stays up. Stop it with ./portal down")

    def play(self, stack: Stack, report: Report, options: dict[str, Any]) -> None:
        directory = stack.var / "demo" / "flights"
        directory.mkdir(parents=True, exist_ok=True)
        refuse_second_play()
        stage = story.Stage(stack, people.gather(stack.web_url), directory, report)
        self.head("Preparing the flights of 2013")
        report.measure(flights=processes.run_script("flights.py", directory)["rows"])

        self.head("Ada trains a baseline and registers it")
        first = story.train(stage, "train_baseline.py", "ada")
        story.prepare_policy(stage)
        self.head("It is built, judged and served in staging")
        story.watch_build(stage, first)
        story.watch_staging(stage, first)
        self.head("Ben asks for production, Grace approves")
        promotion = story.request_production(stage, first, "ben")
        story.watch_first_rollout(stage, story.approve(stage, promotion, requester="ben"))
        at_first = timezone.now().isoformat()

        report_path = stack.var / "demo" / "callers.json"
        with Callers(stack.gateway_url, directory, report_path, rate=options["rate"]) as callers:
            self.head(f"Callers ask about live flights, {options['rate']:.0f} times a second")
            self.head("Ben trains a better model; it is rolled out under that traffic")
            second = story.train(stage, "train_boosted.py", "ben")
            story.watch_build(stage, second)
            story.watch_staging(stage, second)
            promotion = story.request_production(stage, second, "ben")
            story.watch_canary(stage, story.approve(stage, promotion, requester="ben"), callers)
            self.head("Ben trains another one, good offline and harmful live")
            third = story.train(stage, "train_planes.py", "ben")
            story.watch_build(stage, third)
            story.watch_staging(stage, third)
            self.head("Its files are changed after he asks; then he asks again")
            story.refuse_changed_digest(stage, third, "ben")
            promotion = story.request_production(stage, third, "ben")
            story.watch_rollback(stage, story.approve(stage, promotion, requester="ben"), callers)
            if not options["exit"]:
                self.wait_for_the_reader()
            story.settle_callers(stage, callers.stop())
        self.head("What the panel remembers")
        story.watch_memory_of_the_past(stage, second, at_first)

    def head(self, text: str) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(text))

    def wait_for_the_reader(self) -> None:
        """With a terminal the callers go on, so that the pages have something to show."""
        if not sys.stdin.isatty():
            return
        self.stdout.write("The callers go on, at most ten minutes more; Ctrl-C stops them")
        with contextlib.suppress(KeyboardInterrupt):
            signal.sigtimedwait([signal.SIGUSR1], 600)


def refuse_second_play() -> None:
    """The story begins with a model that nobody knows yet."""
    from apps.registry.models import Model

    if Model.objects.filter(name=story.MODEL).exists():
        raise NotObserved(
            f"The demo was played here already: {story.MODEL} exists. Look at it with "
            "./portal up, or remove the data directory (var/) after ./portal down to play again"
        )
