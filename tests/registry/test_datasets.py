"""Data sets: what is taken, what is known of it then, and what is refused."""

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client

from apps.accounts.lifecycle import Role
from apps.accounts.models import User
from apps.audit.models import Event
from apps.registry import selectors, tables
from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Dataset, Model
from apps.registry.services import datasets
from apps.registry.tables import DatasetRefused
from tests.factories.accounts import member
from tests.factories.registry import ModelFactory, PolicyFactory
from tests.people import bearer
from tests.registry.arrow import measured

JULY = datetime(2013, 7, 1, tzinfo=UTC).replace(tzinfo=None)  # as most files keep their times
pytestmark = pytest.mark.django_db


@pytest.fixture
def model() -> Model:
    return ModelFactory.create(name="flight-delay")


@pytest.fixture
def ada(model: Model) -> User:
    return member(model.team, Role.DATA_SCIENTIST, username="ada")


@pytest.fixture(autouse=True)
def folder() -> Iterator[Path]:
    """Where the files go; what the test leaves there is removed."""
    folder = settings.STACK.var / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    yield folder
    for file in set(folder.iterdir()) - before:
        file.unlink()


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def flights() -> bytes:
    return parquet(
        distance=[1400.0, 2475.0, 229.0],
        at=pa.array(
            [JULY + timedelta(days=1), None, JULY + timedelta(hours=5, minutes=30)],
            pa.timestamp("us"),
        ),
        late=[True, False, False],
    )


def register(model: Model, ada: User, now: datetime, content: bytes, **given: Any) -> Dataset:
    fields: dict[str, Any] = {
        "name": "holdout",
        "role": DatasetRole.HOLDOUT,
        "label_column": "",
        "time_column": "",
    }
    return datasets.register_dataset(
        model=model, file=io.BytesIO(content), actor=ada, now=now, **fields | given
    )


def test_what_is_known_of_it(model: Model, ada: User, folder: Path, now: datetime) -> None:
    content = flights()

    dataset = register(model, ada, now, content, label_column="late", time_column="at")

    dataset.refresh_from_db()
    assert dataset.fingerprint == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert Path(dataset.path).read_bytes() == content
    assert Path(dataset.path).stat().st_mode & 0o777 == 0o644  # sandboxed runs must read it
    assert (dataset.rows, dataset.label_column, dataset.time_column) == (3, "late", "at")
    assert dataset.columns == [
        {"name": "distance", "type": "double"},
        {"name": "at", "type": "timestamp[us]"},
        {"name": "late", "type": "bool"},
    ]
    assert dataset.time_from == datetime(2013, 7, 1, 5, 30, tzinfo=UTC)
    assert dataset.time_to == datetime(2013, 7, 2, tzinfo=UTC)
    assert (dataset.registered_by, dataset.created_at) == (ada, now)
    event = Event.objects.get()
    assert (event.verb, event.actor_name, event.model_name) == (
        "dataset.registered",
        "ada",
        "flight-delay",
    )
    assert event.evidence == {
        "fingerprint": dataset.fingerprint,
        "rows": 3,
        "role": "holdout",
        "label_column": "late",
        "time_column": "at",
    }
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["yesterday", "today"]),
        pa.array([1, 2]),
        pa.array([None, None], pa.timestamp("us")),
    ],
)
def test_times_that_tell_no_moment(model: Model, ada: User, now: datetime, column: Any) -> None:
    dataset = register(model, ada, now, parquet(at=column), time_column="at")

    assert (dataset.time_from, dataset.time_to) == (None, None)


def test_times_with_a_zone_and_days(model: Model, ada: User, now: datetime) -> None:
    noon = pa.array([datetime(2013, 7, 1, 12, tzinfo=UTC)], pa.timestamp("ns", tz="America/Denver"))
    days = pa.array([date(2013, 7, 1), date(2013, 7, 3)])

    zoned = register(model, ada, now, parquet(at=noon), time_column="at")
    dated = register(model, ada, now, parquet(at=days), time_column="at")

    assert zoned.time_from == datetime(2013, 7, 1, 12, tzinfo=UTC)
    assert (dated.time_from, dated.time_to) == (
        datetime(2013, 7, 1, tzinfo=UTC),
        datetime(2013, 7, 3, tzinfo=UTC),
    )


def test_the_same_file_twice_is_one_data_set(
    model: Model, ada: User, folder: Path, now: datetime
) -> None:
    before = len(list(folder.iterdir()))
    first = register(model, ada, now, flights(), label_column="late")
    again = register(model, ada, now, flights(), label_column="late")
    other_name = register(model, ada, now, flights(), name="reference", role=DatasetRole.REFERENCE)

    assert again == first
    assert other_name != first
    assert len(list(folder.iterdir())) == before + 1
    assert Event.objects.count() == 2
    assert Path(first.path).read_bytes() == flights()


def test_a_new_file_under_the_same_name_is_a_new_one(
    model: Model, ada: User, now: datetime
) -> None:
    first = register(model, ada, now, parquet(a=[1]))
    second = register(model, ada, now, parquet(a=[2]))

    assert [d.pk for d in model.datasets.all()] == [second.pk, first.pk]


@pytest.mark.parametrize("changed", [{"label_column": "late"}, {"time_column": "at"}])
def test_the_same_file_with_other_columns_is_another_one(
    model: Model, ada: User, now: datetime, changed: dict[str, str]
) -> None:
    PolicyFactory.create(model=model, text="{holdout: holdout, environments: {}}")
    wrong = register(model, ada, now, flights(), label_column="distance")

    right = register(model, ada, now, flights(), **{"label_column": "distance"} | changed)

    assert right != wrong
    assert right.fingerprint == wrong.fingerprint
    assert {field: getattr(right, field) for field in changed} == changed
    assert selectors.holdout_of(model) == right
    assert [event.object_id for event in Event.objects.order_by("pk")] == [wrong.pk, right.pk]
    wrong.refresh_from_db()
    assert (wrong.label_column, wrong.time_column) == ("distance", "")


def test_what_is_registered_last_counts_though_it_is_an_old_file(
    model: Model, ada: User, now: datetime
) -> None:
    PolicyFactory.create(model=model, text="{holdout: holdout, environments: {}}")
    first = register(model, ada, now, flights(), label_column="late")
    register(model, ada, now, flights(), label_column="distance")

    again = register(model, ada, now, flights(), label_column="late")

    assert again != first
    assert selectors.holdout_of(model) == again
    assert register(model, ada, now, flights(), label_column="late") == again
    assert model.datasets.count() == 3


@pytest.mark.django_db(transaction=True)
def test_the_same_file_twice_at_once(model: Model, ada: User, now: datetime) -> None:
    together, seen = Barrier(4, timeout=10), []

    def call() -> None:
        try:
            together.wait()
            seen.append(register(model, ada, now, flights(), label_column="late").pk)
        finally:
            connection.close()

    threads = [Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [Dataset.objects.get().pk] * 4


def test_times_are_read_in_little_memory(
    model: Model, ada: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pq, "read_table", None)  # what it takes is not measured
    rows = 4_000_000  # 32 MB of times in a row group
    times = pa.array(np.full(rows, np.datetime64("2013-07-01T12:00", "us")))
    at = pa.concat_arrays([times, pa.array([JULY], times.type), pa.nulls(5, times.type)])
    out = io.BytesIO()
    pq.write_table(pa.table({"at": at}), out, row_group_size=len(at), compression="zstd")

    with measured() as pool:
        dataset = register(model, ada, now, out.getvalue(), time_column="at")

    assert dataset.time_from == datetime(2013, 7, 1, tzinfo=UTC)
    assert dataset.time_to == datetime(2013, 7, 1, 12, tzinfo=UTC)
    assert 0 < pool.max_memory() < 8 * 1024**2


def test_times_over_row_groups(model: Model, ada: User, now: datetime) -> None:
    out = io.BytesIO()
    days = [JULY + timedelta(days=day) for day in (3, 1, 9, 4)]
    at = pa.array([None, None, *days], pa.timestamp("us"))
    pq.write_table(pa.table({"at": at}), out, row_group_size=2)

    dataset = register(model, ada, now, out.getvalue(), time_column="at")

    assert dataset.time_from == datetime(2013, 7, 2, tzinfo=UTC)
    assert dataset.time_to == datetime(2013, 7, 10, tzinfo=UTC)


def bomb() -> bytes:
    """Eight megabytes of zeros in a few kilobytes, whose footer speaks of a few kilobytes too."""
    return parquet(distance=pa.array(np.zeros(1_000_000)))


@pytest.mark.parametrize(
    ("limit", "code", "words"),
    [
        (
            {"MOST_ROWS": 999_999},
            "dataset_too_many_rows",
            "The file holds 1,000,000 rows, more than 999,999; register a sample of it",
        ),
        (
            {"MOST_UNPACKED_BYTES": 7_000_000},
            "dataset_unpacks_too_large",
            "The file unpacks to 0.0 GiB, more than 0.00651926; register a sample of it",
        ),
    ],
)
def test_a_small_file_of_too_many_rows(
    model: Model,
    ada: User,
    folder: Path,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    limit: dict[str, int],
    code: str,
    words: str,
) -> None:
    content = bomb()
    footer = pq.read_metadata(io.BytesIO(content)).row_group(0)
    assert len(content) < 100_000
    assert footer.total_byte_size < 100_000
    for name, most in limit.items():
        monkeypatch.setattr(tables, name, most)
    monkeypatch.setattr(tables, "_time_span", None)  # reading would raise
    before = set(folder.iterdir())

    with pytest.raises(DatasetRefused) as refused:
        register(model, ada, now, content, time_column="distance")

    assert (refused.value.code, refused.value.message) == (code, words)
    assert set(folder.iterdir()) == before
    assert not Dataset.objects.exists()


def test_long_texts_count_by_what_the_footer_says(
    model: Model, ada: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_UNPACKED_BYTES", 1_000_000)
    texts = pa.array([f"{n:0100000}" for n in range(20)])

    with pytest.raises(DatasetRefused) as refused:
        register(model, ada, now, parquet(words=texts))

    assert refused.value.code == "dataset_unpacks_too_large"


def far_away() -> bytes:
    return parquet(at=pa.array([2**60], pa.timestamp("ms")))


def broken_pages() -> bytes:
    """A file whose footer is whole while its pages are not."""
    out = io.BytesIO()
    times = pa.array([JULY] * 1000, pa.timestamp("us"))
    pq.write_table(pa.table({"at": times}), out, compression="zstd", use_dictionary=False)
    content = bytearray(out.getvalue())
    content[4:80] = b"\xff" * 76
    return bytes(content)


def two_of_a_name() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table([[1], [2], [3]], names=["late", "a", "late"]), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "given", "words"),
    [
        (b"", {}, "The file is not readable as Parquet: .*"),
        (b"no parquet", {}, "The file is not readable as Parquet: .*"),
        (flights()[:-200], {}, "The file is not readable as Parquet: .*"),
        (broken_pages(), {"time_column": "at"}, "The times in 'at' are not readable: .*"),
        (far_away(), {"time_column": "at"}, "The times in 'at' are not readable: .*"),
        (parquet(late=pa.array([], pa.bool_())), {}, "The file holds no rows"),
        (two_of_a_name(), {}, "The file has more than one column late"),
        (
            flights(),
            {"label_column": "delay"},
            "There is no label column 'delay'; the columns are distance, at, late",
        ),
        (
            flights(),
            {"time_column": "when"},
            "There is no time column 'when'; the columns are distance, at, late",
        ),
    ],
)
def test_what_is_refused(
    model: Model, ada: User, folder: Path, now: datetime, content: bytes, given: Any, words: str
) -> None:
    before = set(folder.iterdir())
    with pytest.raises(DatasetRefused, match=f"(?s)^{words}$") as refused:
        register(model, ada, now, content, **given)

    assert refused.value.code == "dataset_invalid"
    assert set(folder.iterdir()) == before
    assert not Dataset.objects.exists()
    assert not Event.objects.exists()


def test_one_that_is_too_large(
    model: Model, ada: User, folder: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MOST_DATASET_BYTES", 100)
    before = set(folder.iterdir())

    with pytest.raises(DatasetRefused, match="larger than 2 GiB; register a sample of it"):
        register(model, ada, now, flights())
    assert set(folder.iterdir()) == before
    assert not Dataset.objects.exists()


def upload(client: Client, user: User, content: bytes, **given: str) -> Any:
    fields = {"name": "holdout", "role": "holdout", "label_column": "late"} | given
    return client.post(
        "/api/v1/models/flight-delay/datasets",
        {**fields, "file": SimpleUploadedFile("holdout.parquet", content)},
        headers=bearer(user),
    )


def test_the_api_takes_a_file(client: Client, ada: User) -> None:
    answer = upload(client, ada, flights())

    assert answer.status_code == 201
    assert answer.json()["rows"] == 3
    assert (answer.json()["model"], answer.json()["role"]) == ("flight-delay", "holdout")
    assert "path" not in answer.json()
    listed = client.get("/api/v1/models/flight-delay/datasets", headers=bearer(ada)).json()
    assert [row["id"] for row in listed["results"]] == [answer.json()["id"]]


def test_the_api_says_what_is_wrong(client: Client, ada: User) -> None:
    refused = upload(client, ada, b"no parquet")
    invalid = upload(client, ada, flights(), role="other")
    viewer = upload(client, member(ada.teams.get(), Role.VIEWER), flights())

    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_invalid")
    assert (invalid.status_code, invalid.json()["code"]) == (400, "invalid")
    assert list(invalid.json()["detail"]) == ["role"]
    assert (viewer.status_code, viewer.json()["code"]) == (403, "forbidden")
    assert not Dataset.objects.exists()
