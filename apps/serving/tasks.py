from celery import shared_task
from django.utils import timezone

from apps.serving import services


@shared_task(name="serving.sweep")
def sweep() -> None:
    services.sweep(now=timezone.now())
