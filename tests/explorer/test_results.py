"""Reading the files that searches and replays leave."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps.explorer import results


def test_the_last_page_of_long_rows_needs_no_more_memory_than_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "1.parquet"
    ids = [f"{number:05d}" for number in range(20_000)]
    pq.write_table(pa.table({"id": ids, "request": [one * 1_000 for one in ids]}), path)
    monkeypatch.setattr(results, "MEMORY_MB", 64)  # of 100 MB

    page = results.page(path, start=19_998, count=2, sort="-id", bodies=True)

    assert page.total == 20_000
    assert page.rows == [
        {"id": "00001", "request": "00001" * 1_000},
        {"id": "00000", "request": "00000" * 1_000},
    ]
