"""Finds predictions in the files of rows, by DuckDB."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from apps.core import duck
from apps.monitoring import rows

MEMORY_MB = 512
THREADS = 2
FIXED = ("row", "at", "shadow")


@dataclass(frozen=True)
class Wanted:
    """The rows whose predictions are looked for, by their place here."""

    ids: Sequence[str]
    rows: Sequence[int]

    def table(self) -> pa.Table:
        return pa.table(
            {
                "wanted_id": pa.array(self.ids, pa.string()),
                "wanted_row": pa.array(self.rows, pa.int32()),
                "place": pa.array(range(len(self.ids)), pa.int64()),
            }
        )


class Search:
    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted.table()

    def rows(self, paths: Iterable[Path], columns: Sequence[str] = ()) -> pa.Table | None:
        """It gives the wanted rows that were answered, with outputs and the named columns.

        `place` tells which of the wanted each is. None: none of the files is there any more.
        """
        try:
            return self._rows(paths, columns)
        except duck.GONE:
            # The time of one was over between the look at it and the reading.
            return self._rows(paths, columns)

    def _rows(self, paths: Iterable[Path], columns: Sequence[str]) -> pa.Table | None:
        files = [str(path) for path in paths if path.exists()]
        if not files:
            return None
        named = "|".join(re.escape(name) for name in (*FIXED, *columns))
        # A model whose answers could not be read has no column of outputs at all.
        pattern = f"^({named}|{re.escape(rows.OUTPUT)}.*)$".replace("'", "''")
        with duck.opened(
            files, threads=THREADS, memory_mb=MEMORY_MB, preserve_insertion_order=False
        ) as connection:
            connection.register("wanted", self._wanted)
            found = connection.sql(
                f"select wanted.place, columns('{pattern}')"
                " from read_parquet(?, hive_partitioning = false, union_by_name = true) as kept"
                " join wanted on kept.id = wanted.wanted_id and kept.row = wanted.wanted_row"
                " where kept.status between 200 and 299",
                params=[files],
            )
            return found.to_arrow_table()
