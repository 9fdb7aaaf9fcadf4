from celery import shared_task
from django.utils import timezone

from apps.builds import services
from apps.jobs import services as jobs


@shared_task(name="builds.run")
def run(job_id: int) -> None:
    jobs.run(job_id)


@shared_task(name="builds.sweep")
def sweep() -> None:
    services.sweep(now=timezone.now())
