from celery import shared_task
from django.utils import timezone

from apps.quality.services import joining, retention


@shared_task(name="quality.join")
def join() -> None:
    joining.sweep(now=timezone.now())


@shared_task(name="quality.expire")
def expire() -> None:
    retention.expire(now=timezone.now())
