"""Data sets as CSV: what becomes of their types, and which line is at fault."""

import io
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apps.accounts.lifecycle import Role
from apps.accounts.models import User
from apps.registry import csv_files, tables
from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Dataset, Model
from apps.registry.services import datasets
from apps.registry.tables import DatasetRefused
from tests.factories.accounts import member
from tests.factories.registry import ModelFactory
from tests.people import bearer

pytestmark = pytest.mark.django_db
FLIGHTS = b"""distance,carrier,at,late,gate
1400,AA,2013-07-01 05:30:00,true,
2475.5,"D,L",2013-07-02 06:00:00,false,B7
,"two
lines",2013-07-03 00:00:00,false,
"""


@pytest.fixture
def model() -> Model:
    return ModelFactory.create(name="flight-delay")


@pytest.fixture
def ada(model: Model) -> User:
    return member(model.team, Role.DATA_SCIENTIST, username="ada")


def register(model: Model, now: datetime, content: bytes, **given: Any) -> Dataset:
    fields: dict[str, Any] = {
        "name": "reference", "role": DatasetRole.REFERENCE, "label_column": "", "time_column": "",
    }  # fmt: skip
    file = io.BytesIO(content)
    return datasets.register_dataset(model=model, file=file, actor=None, now=now, **fields | given)


def table(dataset: Dataset) -> pa.Table:
    return pq.read_table(dataset.path)


def test_types_are_inferred_and_kept_as_parquet(model: Model, now: datetime) -> None:
    dataset = register(model, now, FLIGHTS, label_column="late", time_column="at")
    again = register(model, now, FLIGHTS, label_column="late", time_column="at")

    assert again == dataset
    assert (dataset.rows, dataset.time_from) == (3, datetime.fromisoformat("2013-07-01T05:30Z"))
    assert {c["name"]: c["type"] for c in dataset.columns} == {
        "distance": "double", "carrier": "string", "at": "timestamp[ms]", "late": "bool",
        "gate": "string",
    }  # fmt: skip
    assert table(dataset).column("distance").to_pylist() == [1400.0, 2475.5, None]
    assert table(dataset).column("carrier").to_pylist() == ["AA", "D,L", "two\nlines"]
    assert table(dataset).column("gate").to_pylist() == [None, "B7", None]
    assert not list((settings.STACK.var / "datasets").glob("*.tmp"))


@pytest.mark.parametrize(
    ("first", "later", "kind", "values"),
    [
        (b"1", b"2.5", "double", [1.0, 2.5]),
        (b"", b"2.5", "double", [None, 2.5]),
        (b"", b"B7", "string", [None, "B7"]),
    ],
)
def test_what_a_column_becomes_when_later_lines_say_more(
    model: Model,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    first: bytes,
    later: bytes,
    kind: str,
    values: list[Any],
) -> None:
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 64)
    content = b"a,b\n" + b"1," + first + b"\n" + (b"1," + first + b"\n") * 60 + b"1," + later

    dataset = register(model, now, content)

    assert dataset.columns[1] == {"name": "b", "type": kind}
    column = table(dataset).column("b")
    assert [column[0].as_py(), column[-1].as_py()] == values
    assert dataset.rows == 62


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,2\n3\n", "Line 3 of the CSV file has 1 values, the header has 2"),
        (
            b"a,b\n" + b"1,2\n" * 60 + b"1,far\n",
            "Line 62 of the CSV file: b is double so far, and here invalid value 'far'",
        ),
        (
            b"a,b\n" + b"1,true\n" * 60 + b"1,perhaps\n",
            "Line 62 of the CSV file: b is bool so far, and here invalid value 'perhaps'",
        ),
        (b"a,a\n1,2\n", "The file has more than one column a"),
        (b"a,b\n", "The file holds no rows"),
        (b'a,b\n1,"' + b"x" * 200 + b'"\n', "The CSV file is not readable: .*"),
        (b"a,b\n1,\xff\n", "The file is not readable as Parquet: .*"),
    ],
)
def test_what_is_refused(
    model: Model, now: datetime, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 64)
    folder: Path = settings.STACK.var / "datasets"
    before = set(folder.iterdir()) if folder.is_dir() else set()

    with pytest.raises(DatasetRefused, match=f"(?s)^{words}$") as refused:
        register(model, now, content)

    assert refused.value.code == "dataset_invalid"
    assert set(folder.iterdir()) == before
    assert not Dataset.objects.exists()


def test_more_rows_than_anything_goes_through(
    model: Model, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_ROWS", 3)

    with pytest.raises(DatasetRefused) as refused:
        register(model, now, b"a,b\n" + b"1,2\n" * 4)

    assert refused.value.code == "dataset_too_many_rows"


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("flights.csv", FLIGHTS, 201),
        ("FLIGHTS.CSV", FLIGHTS, 201),
        ("flights.txt", FLIGHTS, 201),
        ("flights.parquet", FLIGHTS, 409),
        ("flights.csv", b"\0\1\2\n", 409),
    ],
)
def test_the_api_takes_it_by_name_and_content(
    client: Client, ada: User, name: str, content: bytes, status: int
) -> None:
    answer = client.post(
        "/api/v1/models/flight-delay/datasets",
        {"name": "r", "role": "reference", "file": SimpleUploadedFile(name, content)},
        headers=bearer(ada),
    )

    assert answer.status_code == status, answer.json()
    if status == 201:
        assert answer.json()["rows"] == 3
