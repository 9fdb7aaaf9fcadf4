"""Reading the files that searches and replays leave."""

from collections.abc import Callable, Iterator
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


@pytest.mark.parametrize("read", [results.as_parquet, results.as_csv])
def test_a_byte_that_changed_anywhere_is_seen_before_the_first_piece(
    tmp_path: Path, read: Callable[[Path, str], Iterator[bytes]]
) -> None:
    """A value that is not compressed is read as another one: the library notices nothing."""
    written, path = tmp_path / "written", tmp_path / "1.parquet"
    whole = pa.table({"id": [f"r{number}" for number in range(1000)]})
    pq.write_table(whole, written, compression="none", use_dictionary=False)
    digest = results.keep(written, path)
    assert b"r500" in b"".join(read(path, digest))
    path.write_bytes(path.read_bytes().replace(b"r500", b"r600"))
    assert pq.read_table(path).num_rows == 1000

    with pytest.raises(results.ResultGone):
        next(read(path, digest))
