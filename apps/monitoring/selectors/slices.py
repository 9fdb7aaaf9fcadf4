"""Questions about slices."""

from django.db.models import QuerySet

from apps.baselines.layout import SCORE
from apps.baselines.selectors import in_force_of, shape
from apps.builds.models import Build
from apps.monitoring.models import Slice
from apps.monitoring.rows import INPUT
from apps.monitoring.shapes import plan
from apps.serving.models import Endpoint

SIGNATURES = 5  # the newest versions' are looked at
OUTPUTS = tuple(f"out.{place}" for place in range(20))


def living(endpoint: Endpoint) -> QuerySet[Slice]:
    """Those that are counted."""
    return Slice.objects.filter(endpoint=endpoint, retired_at=None)


def known_columns(endpoint: Endpoint) -> set[str]:
    """What a condition may ask for: what signatures and baselines name, and the outputs."""
    revisions = endpoint.revisions.order_by("-number")[:SIGNATURES]
    pairs = list(revisions.values_list("build_id", "version_id"))
    builds = Build.objects.filter(pk__in=[build for build, _ in pairs])
    known = set(OUTPUTS)
    for signature in builds.values_list("signature", flat=True):
        known |= {INPUT + name for name in plan(signature).inputs}
    for baseline in in_force_of([version for _, version in pairs]).values():
        known |= {column.name for column in shape(baseline).layout.columns} - {SCORE}
    return known
