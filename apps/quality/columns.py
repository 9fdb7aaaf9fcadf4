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
MOST_FILES = 12_000  # that hold them: one a minute of a week, and more
MOST_ROWS = 30_000_000  # of these files
FILES_AT_ONCE = 500
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
    is_cut: bool  # there are older ones, more than may be looked at


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
        rows.values_list("request_id", "row", "at", "score", "predicted", "actual", "each")[
            : MOST_LABELS + 1
        ]
    )
    is_cut = len(kept) > MOST_LABELS
    kept = kept[:MOST_LABELS]
    files, are_left_out = _files(measure, [row[2] for row in kept])
    search = Search(Wanted([row[0] for row in kept], [row[1] for row in kept]))
    table = _found(search, files, column, len(kept))
    if table is None or column not in table.column_names or not table.num_rows:
        raise NoSuchColumn(f"No labelled row of this time has a column {column!r}")
    names, codes = _coded(measure, column, table)
    order = table["place"].to_numpy()
    found = Rows.kept([row[3:] for row in kept]).where(order)
    counted = marks.count(ruler, found, codes, len(names))
    read = [marks.read(ruler, vector) for vector in counted]
    groups = [
        Group(name, sums.n, metrics.of(sums))
        for name, sums in zip(names, read, strict=True)
        if sums.n
    ]
    extreme = sum(sums.extreme for sums in read if isinstance(sums, Values))
    return ByColumn(column, measure.revision, groups, len(order), extreme, is_cut or are_left_out)


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


def _files(measure: Measure, at: list[datetime]) -> tuple[list[RowFile], bool]:
    """The files that may hold predictions of these times, newest first; whether some are left out.

    Only such: of few labels among many predictions most files hold none.
    """
    if not at:
        return [], False
    times = np.sort([moment.timestamp() for moment in at])
    known = RowFile.objects.filter(
        revision=measure.revision_id, last_at__gte=min(at), first_at__lte=max(at)
    )
    files: list[RowFile] = []
    rows = 0
    for file in known.order_by("-last_at", "-pk").iterator(5_000):
        first = np.searchsorted(times, file.first_at.timestamp(), side="left")
        last = np.searchsorted(times, file.last_at.timestamp(), side="right")
        if first == last:
            continue
        rows += file.rows
        if files and (len(files) == MOST_FILES or rows > MOST_ROWS):
            return files, True
        files.append(file)
    return files, False


def _found(search: Search, files: list[RowFile], column: str, wanted: int) -> pa.Table | None:
    """The wanted rows that these files hold, without copies; each once."""
    parts: list[pa.Table] = []
    seen: set[int] = set()
    for first in range(0, len(files), FILES_AT_ONCE):
        chunk = files[first : first + FILES_AT_ONCE]
        table = search.rows([places.rows() / file.path for file in chunk], [column])
        if table is None:
            continue
        table = table.filter(pc.invert(table["shadow"]))
        kept = [name for name in ("place", "at", column) if name in table.column_names]
        parts.append(table.select(kept))
        seen |= set(table["place"].to_pylist())
        if len(seen) == wanted:
            break
    if not parts:
        return None
    # Of a request that was sent again with its id the last one has the label.
    found = pa.concat_tables(parts, promote_options="permissive")
    found = found.sort_by([("place", "ascending"), ("at", "descending")])
    order = found["place"].to_numpy()
    return found.filter(pa.array(np.append(True, order[1:] != order[:-1])[: len(order)]))


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
