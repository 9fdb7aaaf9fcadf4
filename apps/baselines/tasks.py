from celery import shared_task
from django.utils import timezone

from apps.baselines import services
from apps.jobs import services as jobs


@shared_task(name="baselines.run")
def run(job_id: int) -> None:
    jobs.run(job_id)


@shared_task(name="baselines.sweep")
def sweep() -> None:
    services.sweep(now=timezone.now())
