"""Freezes a baseline from the first rows of a version, where nobody gave reference data."""

import logging
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from django.db.models import Exists, OuterRef, QuerySet, Sum

from apps.baselines import services as baselines
from apps.baselines.lifecycle import State
from apps.baselines.models import Baseline
from apps.monitoring import places
from apps.monitoring.models import RowFile
from apps.monitoring.rows import INPUT, OUTPUT
from apps.registry.models import Version

log = logging.getLogger(__name__)
LEAST_ROWS = 1_000
MOST_ROWS = 50_000
# What the layout needs beside the values.
COUNTED = ("row", "at", "status", "absent", "wrong", "redacted")


def sweep(*, now: datetime) -> None:
    """It freezes what is missing, once a version has answered enough rows."""
    for version in _waiting():
        table = _first_rows(version)
        if table is not None and table.num_rows >= LEAST_ROWS:
            baselines.freeze_from_rows(version=version, table=table, now=now)


def _waiting() -> QuerySet[Version]:
    told = Baseline.objects.filter(version=OuterRef("pk")).exclude(state=State.FAILED)
    rows = Version.objects.filter(revisions__row_files__isnull=False).exclude(Exists(told))
    enough = rows.annotate(logged=Sum("revisions__row_files__rows")).filter(logged__gte=LEAST_ROWS)
    return enough.select_related("model").order_by("pk")


def _first_rows(version: Version) -> pa.Table | None:
    """The rows that were answered, in the order of time; None where no file can be read."""
    found: list[pa.Table] = []
    held = 0
    files = RowFile.objects.filter(revision__version=version).order_by("first_at", "pk")
    for file in files.iterator():
        table = _answered(file)
        if table is None or not _fits(found, table):
            continue
        found.append(table.slice(0, MOST_ROWS - held))
        held += found[-1].num_rows
        if held >= MOST_ROWS:
            break
    if not found:
        return None
    table = pa.concat_tables(found, promote_options="default")
    return table.sort_by([("at", "ascending")])


def _answered(file: RowFile) -> pa.Table | None:
    try:
        table = pq.read_table(places.rows() / file.path)
    except (OSError, pa.ArrowException) as gone:  # it has expired, or is damaged
        log.warning("The rows of %s are not read: %s", file.path, gone)
        return None
    keep = [
        name for name in table.column_names if name.startswith((INPUT, OUTPUT)) or name in COUNTED
    ]
    status = table.column("status")
    is_answered = pc.and_(pc.greater_equal(status, 200), pc.less(status, 300))
    return table.select(keep).filter(pc.and_(is_answered, pc.greater_equal(table.column("row"), 0)))


def _fits(found: list[pa.Table], table: pa.Table) -> bool:
    """Without a signature, a column may be of another type in a later file."""
    try:
        pa.unify_schemas([*(one.schema for one in found), table.schema])
    except pa.ArrowException:
        return False
    return True
