"""Which rows candidates are judged on, and how much of a file is held to find them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from apps.jobs.services import Cancelled, Failed
from apps.registry import sampling, tables
from apps.registry.models import Dataset
from apps.validation import holdout
from apps.validation.holdout import Holdout
from tests.registry.arrow import measured

Save = Callable[..., Dataset]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """It writes a table and gives the data set, which no database need know."""

    def save(table: pa.Table, **how: Any) -> Dataset:
        path = tmp_path / "rows.parquet"
        pq.write_table(table, path, **how)
        return Dataset(name="h", label_column="late", path=str(path), fingerprint="sha256:1")

    return save


def read(dataset: Dataset) -> Holdout:
    return holdout.read(dataset, tick=lambda: None)


def rows(count: int) -> pa.Table:
    """Every kind of column, and a label that each seventh row lacks."""
    numbers = np.arange(count)
    return pa.table(
        {
            "distance": pa.array(numbers * 1.5),
            "late": pa.array(np.where(numbers % 7, numbers % 2, np.nan), from_pandas=False),
            "carrier": pa.array([f"c{n}" for n in numbers % 3]).dictionary_encode(),
            "words": pa.array([None if n % 5 == 0 else f"w{n}" for n in numbers]),
            "at": pa.array(numbers, pa.timestamp("us", tz="UTC")),
            "tags": pa.array([[int(n)] for n in numbers]),
        }
    )


@pytest.mark.parametrize(
    ("most", "pieces"), [(200_000, 1000), (1000, 1000), (857, 2), (100, 3), (1, 1)]
)
def test_the_rows_are_drawn_evenly_whatever_the_batches(
    save: Save, monkeypatch: pytest.MonkeyPatch, most: int, pieces: int
) -> None:
    table = rows(1000)
    known = table.filter(pc.invert(pc.is_nan(table.column("late"))))
    step = max(known.num_rows / most, 1)
    places = [int(i * step) for i in range(min(known.num_rows, most))]
    for name, value in (("MOST_ROWS", most), ("BATCH_ROWS", 64), ("MOST_PIECES", pieces)):
        monkeypatch.setattr(holdout if name == "MOST_ROWS" else sampling, name, value)

    found = read(save(table, row_group_size=300))

    assert found.table.to_pylist() == known.take(places).to_pylist()
    assert found.table.schema.equals(table.schema)
    assert (found.rows_read, found.rows_without_label) == (1000, 143)
    assert found.rows == min(most, 857)


def test_a_holdout_without_any_label(save: Save) -> None:
    found = read(save(rows(1)))

    assert (found.rows, found.rows_without_label) == (0, 1)
    assert found.table.column_names == ["distance", "late", "carrier", "words", "at", "tags"]


def test_columns_whose_names_hold_dots(save: Save) -> None:
    table = pa.table({"late.not": [1.0, 2.0], "late": [0, 1], "a.b": ["x", "y"]})

    assert read(save(table)).table.select(["a.b", "late.not"]).to_pylist() == [
        {"a.b": "x", "late.not": 1.0},
        {"a.b": "y", "late.not": 2.0},
    ]


def test_a_large_table_is_read_in_little_memory(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pq, "read_table", None)  # what it takes is not measured
    monkeypatch.setattr(holdout, "MOST_ROWS", 1000)
    zeros = pa.array(np.zeros(500_000))
    table = pa.table({"late": zeros, **{f"c{n}": zeros for n in range(20)}})  # 84 MB
    dataset = save(table, row_group_size=500_000)
    assert Path(dataset.path).stat().st_size < 1_000_000

    with measured() as pool:
        assert read(dataset).rows == 1000
    assert 0 < pool.max_memory() < 30_000_000


@pytest.mark.parametrize("shared", [True, False])
def test_rows_that_hold_too_much_are_not_gathered(
    save: Save, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    monkeypatch.setattr(holdout, "MOST_BYTES", 50_000_000)
    words = pa.array(["x" * 100_000]).take(pa.array(np.zeros(2000, np.int64)))
    table = pa.table(
        {"late": np.zeros(2000), "words": words.dictionary_encode() if shared else words}
    )
    dataset = save(table)
    assert Path(dataset.path).stat().st_size < 1_000_000

    with pytest.raises(Failed) as failed:
        read(dataset)

    assert str(failed.value) == (
        "The rows of the data set h that models are judged on hold more than 0.0465661 GiB; "
        "register one with fewer or narrower columns"
    )


def test_more_rows_than_anything_goes_through(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = save(rows(1000))
    monkeypatch.setattr(tables, "MOST_ROWS", 999)
    monkeypatch.setattr(sampling, "batches", None)  # reading would raise

    with pytest.raises(Failed) as failed:
        read(dataset)

    assert str(failed.value) == (
        "The data set h cannot be judged on. The file holds 1,000 rows, more than 999; "
        "register a sample of it"
    )


def test_a_file_that_is_broken(save: Save) -> None:
    dataset = save(rows(1000), compression="zstd")
    content = bytearray(Path(dataset.path).read_bytes())
    content[4:400] = b"\xff" * 396
    Path(dataset.path).write_bytes(content)

    with pytest.raises(Failed, match="The data set h is not readable: "):
        read(dataset)


def test_who_cancels_need_not_wait_for_the_end(save: Save) -> None:
    def stop() -> None:
        raise Cancelled("Cancelled by ada")

    with pytest.raises(Cancelled):
        holdout.read(save(rows(1000)), tick=stop)
