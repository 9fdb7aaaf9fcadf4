from celery import shared_task

from apps.jobs import services as jobs


@shared_task(name="validation.run")
def run(job_id: int) -> None:
    jobs.run(job_id)
