"""Quality by the values of one column: labels joined to the files of rows when it is asked for."""

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from apps.baselines import selectors as baselines
from apps.baselines.layout import Kind
from apps.core.errors import Refused
from apps.monitoring import places
from apps.monitoring.models import RowFile
from apps.quality import marks, metrics
from apps.quality.amounts import Values
from apps.quality.found import Search, Wanted
from apps.quality.marks import Rows, Ruler
from apps.quality.metrics import Figure
from apps.quality.models import Labelled, Measure
from apps.serving.models import Endpoint, Revision

MOST_LABELS = 100_000  # the newest of them: a page waits for the answer
MOST_FILES = 2_000
MOST_GROUPS = 20
PARTS = 5  # of a column of numbers that no baseline has bins for
Codes = npt.NDArray[np.int64]


class NoSuchColumn(Refused):
    code = "no_such_column"


@dataclass(frozen=True)
class Group:
    label: str
    labels: int
    metrics: dict[str, Figure]


@dataclass(frozen=True)
class ByColumn:
    column: str
    revision: Revision
    groups: list[Group]
    labels: int  # that were looked at
    extreme: int  # of these, too far from all others to be in any group
    is_cut: bool  # there are more than may be looked at


def by_column(
    endpoint: Endpoint,
    column: str,
    since: datetime,
    until: datetime,
    *,
    revision: Revision | None = None,
) -> ByColumn:
    """It measures one revision (the newest with labels) apart for each value or bin of a column.

    Raises: NoSuchColumn when no row of the span has it.
    """
    measure = _measure(endpoint, revision)
    ruler = Ruler.from_json(measure.ruler)
    rows = Labelled.objects.filter(
        revision=measure.revision_id, shadow=False, at__gte=since, at__lt=until
    ).order_by("-at", "-pk")
    kept = list(
        rows.values_list("request_id", "row", "score", "predicted", "actual", "each")[
            : MOST_LABELS + 1
        ]
    )
    cut = len(kept) > MOST_LABELS
    kept = kept[:MOST_LABELS]
    files = RowFile.objects.filter(
        revision=measure.revision_id, last_at__gte=since, first_at__lt=until
    ).order_by("-last_at")[:MOST_FILES]
    search = Search(Wanted([row[0] for row in kept], [row[1] for row in kept]))
    table = search.rows([places.rows() / file.path for file in files], [column])
    if table is None or column not in table.column_names or not table.num_rows:
        raise NoSuchColumn(f"No labelled row of this time has a column {column!r}")
    table = table.filter(pc.invert(table["shadow"]))
    names, codes = _coded(measure, column, table)
    order = table["place"].to_numpy()
    found = Rows.kept([row[2:] for row in kept]).where(order)
    counted = marks.count(ruler, found, codes, len(names))
    read = [marks.read(ruler, vector) for vector in counted]
    groups = [
        Group(name, sums.n, metrics.of(sums))
        for name, sums in zip(names, read, strict=True)
        if sums.n
    ]
    extreme = sum(sums.extreme for sums in read if isinstance(sums, Values))
    return ByColumn(column, measure.revision, groups, len(order), extreme, cut)


def choices(endpoint: Endpoint, revision: Revision | None = None) -> list[str]:
    """The columns that quality can be asked by: those of the baseline in force."""
    measure = Measure.objects.filter(revision__endpoint=endpoint)
    if revision is not None:
        measure = measure.filter(revision=revision)
    newest = measure.select_related("revision__version").order_by("-revision__number").first()
    baseline = baselines.in_force(newest.revision.version) if newest else None
    if baseline is None or not baseline.rows:
        return []
    columns = baselines.shape(baseline).layout.columns
    return [one.name for one in columns if str(one.role) == "input"]


def _measure(endpoint: Endpoint, revision: Revision | None) -> Measure:
    rows = Measure.objects.filter(revision__endpoint=endpoint).select_related("revision__version")
    if revision is not None:
        rows = rows.filter(revision=revision)
    found = rows.order_by("-revision__number").first()
    if found is None:
        raise NoSuchColumn("No label has come for these predictions", code="no_labels")
    return found


def _coded(measure: Measure, column: str, table: pa.Table) -> tuple[list[str], Codes]:
    """Names of the groups, and the group of each row."""
    values = table[column].combine_chunks()
    empty = np.asarray(values.is_null())
    if pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
        numbers = np.asarray(values.cast(pa.float64()).fill_null(np.nan))
        empty |= ~np.isfinite(numbers)
        names, codes = _binned(_edges(measure, column, numbers[~empty]), numbers)
    else:
        names, codes = _texts(values.cast(pa.string()))
    codes[empty] = len(names)
    return [*names, "no value"], codes


def _edges(measure: Measure, column: str, numbers: npt.NDArray[np.float64]) -> list[float]:
    """Every fourth edge of the baseline's bins, or quantiles of what came."""
    baseline = baselines.in_force(measure.revision.version)
    if baseline is not None and baseline.rows:
        known = baselines.shape(baseline).layout.by_name.get(column)
        if known is not None and known.kind is Kind.DISCRETE:
            return [float(np.nextafter(float(value), np.inf)) for value in known.values[:-1]]
        if known is not None and known.edges:
            return list(known.edges[3::4]) or list(known.edges)
    if not numbers.size:
        return []
    return sorted(set(np.quantile(numbers, np.arange(1, PARTS) / PARTS).tolist()))


def _binned(edges: list[float], numbers: npt.NDArray[np.float64]) -> tuple[list[str], Codes]:
    codes = np.searchsorted(edges, np.nan_to_num(numbers), side="right").astype(np.int64)
    if not edges:
        return ["any number"], codes
    inner = [f"{a:.4g} to {b:.4g}" for a, b in pairwise(edges)]
    return [f"below {edges[0]:.4g}", *inner, f"{edges[-1]:.4g} and above"], codes


def _texts(values: pa.Array) -> tuple[list[str], Codes]:
    counts = pc.value_counts(values.drop_null()).to_pylist()
    often = sorted(counts, key=lambda one: (-one["counts"], one["values"]))[:MOST_GROUPS]
    names = [one["values"] for one in often]
    places = {name: place for place, name in enumerate(names)}
    codes = [places.get(value, len(names)) for value in values.to_pylist()]
    return [*names, "other"], np.array(codes, np.int64)
