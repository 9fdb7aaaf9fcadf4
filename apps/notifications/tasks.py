from celery import shared_task
from django.utils import timezone

from apps.core.once import alone
from apps.notifications import services


@shared_task(name="notifications.sweep")
def sweep() -> None:
    # A mail server that hangs holds one slot of the worker that rollouts tick in, never both.
    with alone("notifications.sweep") as mine:
        if mine:
            services.sweep(now=timezone.now())
