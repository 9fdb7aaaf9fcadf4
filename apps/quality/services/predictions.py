"""Predicted rows in the files of rows: those that labels are of."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from apps.baselines import meaning as meanings
from apps.monitoring import conditions, places
from apps.monitoring.models import RowFile, Slice
from apps.quality import marks
from apps.quality.found import Search, Wanted
from apps.quality.services import labelled
from apps.quality.services.batches import Batch

CHUNK_ROWS = 3_000_000  # of files that are searched at once


def of(batch: Batch) -> dict[int, pa.Table]:
    """It gives the rows of a batch by revision; `place` tells which label each is of."""
    parts: dict[int, list[pa.Table]] = {}
    missing = _missing(batch) if batch.since is None else None
    wanted = Wanted([sent.request_id for sent in batch.sent], [sent.row for sent in batch.sent])
    files = RowFile.objects.filter(revision__in=list(batch.revisions))
    if batch.since is not None:
        files = files.filter(log_file__created_at__gte=batch.since)
    if not files.exists() or missing == set():
        return {}
    search = Search(wanted)
    for chunk in _chunks(files.order_by("-last_at", "-pk").iterator(5_000)):
        for pk in sorted({file.revision_id for file in chunk}):
            slices = batch.slices_of(batch.revisions[pk])
            table = rows(search, [file for file in chunk if file.revision_id == pk], slices)
            if table is not None and table.num_rows:
                parts.setdefault(pk, []).append(table)
                if missing is not None:
                    missing -= set(table["place"].to_pylist())
        if missing is not None and not missing:
            break  # newest first: most labels are of predictions of late
    return {
        pk: _last_of_each(pa.concat_tables(tables, promote_options="permissive"))
        for pk, tables in sorted(parts.items())
    }


def rows(search: Search, files: Iterable[RowFile], slices: Iterable[Slice]) -> pa.Table | None:
    """It gives the wanted rows of files of one revision, with what their slices ask for."""
    columns = sorted(set().union(*(conditions.columns(one.condition) for one in slices)))
    return search.rows([places.rows() / file.path for file in files], columns)


def inside(slices: Sequence[Slice], table: pa.Table) -> list[list[int]]:
    """In which slices each row is."""
    found: list[list[int]] = [[] for _ in range(table.num_rows)]
    for one in slices:
        for place in np.flatnonzero(conditions.mask(one.condition, table)).tolist():
            found[place].append(one.pk)
    return found


def outputs(table: pa.Table) -> pa.Table:
    return table.select(meanings.output_names(table))


def microseconds(table: pa.Table) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = table["at"].cast(pa.int64()).to_numpy()
    return found


def seconds(table: pa.Table) -> marks.Ints:
    return microseconds(table) // 1_000_000


def _missing(batch: Batch) -> set[int]:
    """The labels of predictions that have none yet: the others need no file."""
    known = labelled.of(batch.revisions, batch.sent).values_list("request_id", "row")
    return set(batch.places.values()) - {batch.places.get(key, -1) for key in known}


def _chunks(files: Iterator[RowFile]) -> Iterator[list[RowFile]]:
    chunk: list[RowFile] = []
    size = 0
    for file in files:
        chunk.append(file)
        size += file.rows
        if size >= CHUNK_ROWS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _last_of_each(table: pa.Table) -> pa.Table:
    """A caller may send a request again with the same id: the last of them is the one."""
    order = pc.sort_indices(table, [("at", "descending")])
    sorted_ = table.select(["place", "shadow"]).take(order).append_column("nth", order)
    first = sorted_.group_by(["place", "shadow"], use_threads=False).aggregate([("nth", "first")])
    return table.take(first["nth_first"])
