from celery import shared_task
from django.utils import timezone

from apps.notifications import services


@shared_task(name="notifications.sweep")
def sweep() -> None:
    services.sweep(now=timezone.now())
