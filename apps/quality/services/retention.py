"""Removes what was kept long enough: fine sums first, the coarse ones hold the same for longer."""

from datetime import datetime, timedelta

from apps.monitoring.windows import FOREVER, TALLIES
from apps.quality.lifecycle import State
from apps.quality.models import Feedback, Labelled, Marks

KEPT = timedelta(days=400)  # single labels: so long they may be corrected


def expire(*, now: datetime) -> None:
    for width, age in TALLIES.items():
        if age < FOREVER:
            Marks.objects.filter(width_seconds=width, at__lt=now - age).delete()
    Labelled.objects.filter(at__lt=now - KEPT).delete()
    old = Feedback.objects.filter(received_at__lt=now - KEPT).exclude(state=State.WAITING)
    old.delete()
