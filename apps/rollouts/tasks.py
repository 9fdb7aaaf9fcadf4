from celery import shared_task
from django.utils import timezone

from apps.rollouts import reconciler


@shared_task(name="rollouts.sweep")
def sweep() -> None:
    reconciler.sweep(clock=timezone.now)
