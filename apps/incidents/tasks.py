from celery import shared_task
from django.utils import timezone

from apps.incidents import runner


@shared_task(name="incidents.sweep")
def sweep() -> None:
    runner.sweep(clock=timezone.now)


@shared_task(name="incidents.digest")
def digest() -> None:
    runner.digest(now=timezone.now())
