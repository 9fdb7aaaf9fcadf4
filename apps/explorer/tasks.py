from celery import shared_task
from django.utils import timezone

from apps.explorer import services
from apps.jobs import services as jobs


@shared_task(name="explorer.run")
def run(job_id: int) -> None:
    jobs.run(job_id)


@shared_task(name="explorer.replay.run")
def run_replay(job_id: int) -> None:
    jobs.run(job_id)


@shared_task(name="explorer.sweep")
def sweep() -> None:
    services.sweep(now=timezone.now())
