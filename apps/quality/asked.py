"""What was asked for, by API or page: which revision and slice, how fine, and the chart of it."""

from datetime import datetime, timedelta
from typing import Any

from django.shortcuts import get_object_or_404

from apps.monitoring.models import Slice
from apps.quality import charts, selectors
from apps.serving.models import Endpoint, Revision

WINDOWS = {
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "1y": timedelta(days=365),
}
STEPS = (300, 900, 3600, 10_800, 21_600, 86_400, 604_800)
POINTS = 60  # of a chart: each has an interval, which takes labels
FIRST = {"binary": "accuracy", "multiclass": "accuracy", "regression": "rmse"}


def chosen(endpoint: Endpoint, asked: dict[str, Any]) -> tuple[Revision | None, Slice | None]:
    revision = part = None
    if asked.get("revision"):
        number = min(asked["revision"], 2**31 - 1)
        rows = endpoint.revisions.select_related("version", "endpoint")
        revision = get_object_or_404(rows, number=number)
    if asked.get("slice"):
        part = get_object_or_404(
            Slice, endpoint=endpoint, pk=max(0, min(asked["slice"], 2**63 - 1))
        )
    return revision, part


def first_metric(endpoint: Endpoint, revision: Revision | None) -> str:
    return FIRST.get(selectors.task_of(endpoint, revision), "accuracy")


def step_for(span: timedelta) -> int:
    wanted = span.total_seconds() / POINTS
    return next((step for step in STEPS if step >= wanted), STEPS[-1])


def trend(
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    step: int,
    metric: str,
    revision: Revision | None,
    part: Slice | None,
    shadow: bool,
) -> dict[str, Any]:
    """Raises: ValueError for a step that is too short for the span."""
    lines = selectors.series(
        endpoint, since, until, step, metric, revision=revision, slice=part, shadow=shadow
    )
    serves = revision or endpoint.stable
    if serves is not None:
        estimate = selectors.estimated_series(
            serves, since, until, step, metric, slice=part, shadow=shadow
        )
        lines += [estimate] if estimate else []
    reference = selectors.reference_of(serves).values.get(metric)
    return charts.trend(metric, lines, reference, (since, until))
