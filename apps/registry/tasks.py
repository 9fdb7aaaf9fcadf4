import logging

from celery import shared_task
from django.utils import timezone

from apps.core.errors import Unavailable
from apps.core.once import alone
from apps.registry.lifecycle import Source
from apps.registry.services import missed, versions

log = logging.getLogger(__name__)


@shared_task(name="registry.register")
def register(name: str, number: int, seen_by: str) -> None:
    try:
        versions.register_version(
            name=name, number=number, seen_by=Source(seen_by), now=timezone.now()
        )
    except versions.NOT_TAKEN as why:  # the sweep looks again
        log.warning("%s v%s not taken: %s", name, number, why)


@shared_task(name="registry.sweep")
def sweep() -> None:
    try:
        with alone("registry.sweep") as mine:
            if mine:
                missed.sweep(now=timezone.now())
    except Unavailable as down:
        log.warning("No sweep: %s", down.message)
