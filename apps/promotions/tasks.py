from celery import shared_task
from django.utils import timezone

from apps.promotions import services


@shared_task(name="promotions.sweep")
def sweep() -> None:
    services.sweep(now=timezone.now())
