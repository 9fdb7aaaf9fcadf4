"""What a database that is opened for some files can reach, and that none is opened otherwise."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps.core import duck

ROOT = Path(duck.__file__).parents[2]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    for name in ("mine", "theirs"):
        pq.write_table(pa.table({"id": ["a", "b"]}), tmp_path / f"{name}.parquet")
    return tmp_path / "mine.parquet"


def test_it_reads_what_it_was_opened_for_and_nothing_else(mine: Path) -> None:
    theirs = mine.with_name("theirs.parquet")
    here = pa.table({"x": [1]})  # what a query must not take for a table
    with duck.opened([mine], threads=1, memory_mb=64) as db:
        db.register("wanted", here)
        assert db.execute("select id from read_parquet(?)", [str(mine)]).fetchall() == [
            ("a",),
            ("b",),
        ]
        assert db.execute("select x from wanted").fetchall() == [(1,)]
        for query, kind in {
            f"select * from read_parquet('{theirs}')": duckdb.PermissionException,
            f"select * from read_parquet('{mine.parent}/*.parquet')": duckdb.PermissionException,
            "select * from read_text('/etc/passwd')": duckdb.PermissionException,
            f"copy (select 1) to '{mine.parent}/out.parquet'": duckdb.PermissionException,
            f"attach '{mine.parent}/x.db' as x": duckdb.PermissionException,
            "load httpfs": duckdb.PermissionException,
            "select * from here": duckdb.CatalogException,
            "set enable_external_access = true": duckdb.InvalidInputException,
            "set memory_limit = '64GB'": duckdb.InvalidInputException,
            "reset lock_configuration": duckdb.InvalidInputException,
        }.items():
            with pytest.raises(kind):
                db.execute(query)
    assert sorted(path.name for path in mine.parent.iterdir()) == [mine.name, theirs.name]


def test_a_file_that_went_is_told_as_gone(mine: Path) -> None:
    with duck.opened([mine], threads=1, memory_mb=64) as db:
        mine.unlink()

        with pytest.raises(duck.GONE):
            db.execute("select id from read_parquet(?)", [str(mine)])


def test_what_does_not_fit_goes_to_the_folder_only(tmp_path: Path) -> None:
    spilled = "create table t as select i, hash(i) as h from range(5_000_000) r(i)"
    with duck.opened([], threads=1, memory_mb=32, folder=tmp_path, spill_mb=500) as db:
        db.execute(spilled)
        assert list((tmp_path / "spill").iterdir())
    with (
        duck.opened([], threads=1, memory_mb=32) as db,
        pytest.raises(duckdb.OutOfMemoryException) as short,
    ):
        db.execute(spilled)
    assert not duck.is_of_spill(short.value)


def test_no_more_goes_to_the_folder_than_was_told(tmp_path: Path) -> None:
    """DuckDB 2.0 does not keep the limit when it is told at the opening."""
    spilled = "create table t as select i, hash(i) as h from range(5_000_000) r(i)"
    with (
        duck.opened([], threads=1, memory_mb=32, folder=tmp_path, spill_mb=2) as db,
        pytest.raises(duckdb.OutOfMemoryException) as short,
    ):
        db.execute(spilled)
    assert duck.is_of_spill(short.value)


def test_nothing_opens_it_otherwise() -> None:
    opens = [
        str(path.relative_to(ROOT))
        for top in ("apps", "mlops_portal")
        for path in sorted((ROOT / top).rglob("*.py"))
        if "duckdb.connect(" in path.read_text()
    ]

    assert opens == ["apps/core/duck.py"]
