"""Chooses the revisions whose rows are counted in the bins of another one's version as well.

A candidate's in those of the stable one, while both are there: their baselines were made of other
data as a rule, and nobody could tell a changed answer from bins that differ.
"""

from datetime import datetime, timedelta

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from apps.monitoring.models import Comparison, RowFile
from apps.serving.models import Revision

RECENT = timedelta(days=1)


def begin(*, now: datetime) -> None:
    """It begins to compare each revision that had rows lately with its endpoint's stable one."""
    Comparison.objects.bulk_create(
        (
            Comparison(revision=row, other=row.endpoint.stable, created_at=now)
            for row in _alone(now)
            if row.endpoint.stable is not None
        ),
        ignore_conflicts=True,  # another collector was as fast
    )


def _alone(now: datetime) -> QuerySet[Revision]:
    had_rows = RowFile.objects.filter(revision=OuterRef("pk"), last_at__gte=now - RECENT)
    stable = OuterRef("endpoint__stable")
    # One way is enough: what was the stable one was counted in when this one was the candidate.
    known = Comparison.objects.filter(
        Q(revision=OuterRef("pk"), other=stable) | Q(revision=stable, other=OuterRef("pk"))
    )
    return (
        Revision.objects.filter(Exists(had_rows), endpoint__stable__isnull=False)
        .exclude(version=F("endpoint__stable__version"))
        .exclude(Exists(known))
        .select_related("endpoint__stable")
    )
