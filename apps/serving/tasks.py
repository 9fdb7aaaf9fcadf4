from celery import shared_task
from django.utils import timezone

from apps.serving.services import sights


@shared_task(name="serving.sweep")
def sweep() -> None:
    sights.sweep(now=timezone.now())
