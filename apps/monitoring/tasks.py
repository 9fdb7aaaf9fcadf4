from celery import shared_task
from django.utils import timezone

from apps.monitoring.services import first_rows, leftovers


@shared_task(name="monitoring.sweep")
def sweep() -> None:
    leftovers.sweep(now=timezone.now())
    first_rows.sweep(now=timezone.now())
