from celery import shared_task
from django.utils import timezone

from apps.jobs import services


@shared_task(name="jobs.sweep")
def sweep() -> None:
    services.sweep(now=timezone.now())
