"""Segments become sums: exactly, and each once."""

import json
import logging
import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import IntegrityError

from apps.monitoring import histogram, segments
from apps.monitoring.models import Rollup, Segment
from apps.monitoring.services import leftovers, rollups
from apps.monitoring.services import segments as counting
from apps.monitoring.services.segments import Found
from apps.monitoring.sums import Sums
from apps.serving.models import Endpoint
from tests.monitoring.making import START_US, record, segment, spans

AT = datetime(2030, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def count(*paths: Path, now: datetime) -> set[int]:
    return counting.count([Found(int(path.parent.name), path) for path in paths], now=now)


def test_sums_are_exact(endpoint: Endpoint, now: datetime) -> None:
    revision = endpoint.revisions.get(number=2)
    path = segment(
        revision.pk,
        [
            record(START_US, us=1000),
            record(START_US + 1, us=2000),
            record(START_US + 2, us=99, status=400),
            record(START_US + 9_999_999, us=99, status=500),
            record(START_US + 10_000_000, us=0, status=200),
        ],
    )
    assert count(path, now=now) == {endpoint.pk}
    first, second = spans().filter(origin="server").order_by("at")
    assert (first.revision_id, first.origin, first.width_seconds) == (revision.pk, "server", 10)
    assert (first.at, second.at) == (AT, AT + timedelta(seconds=10))
    assert (first.requests, first.client_errors, first.server_errors) == (4, 1, 1)
    assert first.latency_count == 2
    assert first.log_latency_sum == pytest.approx(math.log(2), rel=1e-12)
    assert first.log_latency_square_sum == pytest.approx(math.log(2) ** 2, rel=1e-12)
    bins = histogram.unpack(first.latency_bins)
    assert bins.tolist() == histogram.from_us([1000, 2000]).tolist()
    assert (second.requests, second.latency_count) == (1, 1)
    assert second.log_latency_sum == pytest.approx(math.log(0.001))
    row = Segment.objects.get()
    assert (row.name, row.rows, row.dropped, row.torn) == (f"{revision.pk}/{path.name}", 5, 0, 0)
    assert row.counted_at == now
    assert path.exists()


def test_shadows_have_sums_of_their_own(endpoint: Endpoint, now: datetime) -> None:
    revision = endpoint.revisions.get(number=2)
    copies = [
        record(START_US, us=1000, shadow=True),
        record(START_US, us=3000, shadow=True),
        record(START_US, us=9, status=422, shadow=True),
        record(START_US, us=9, status=503, shadow=True),
    ]
    count(segment(revision.pk, [*copies, record(START_US, us=2000)]), now=now)
    asked = spans().get(origin="server")
    assert (asked.revision_id, asked.requests, asked.latency_count) == (revision.pk, 1, 1)
    assert histogram.unpack(asked.latency_bins).tolist() == histogram.from_us([2000]).tolist()
    seen = spans().get(origin="shadow")
    assert (seen.revision_id, seen.at) == (revision.pk, AT)
    assert (seen.requests, seen.client_errors, seen.server_errors) == (4, 1, 1)
    assert seen.latency_count == 2
    assert seen.log_latency_sum == pytest.approx(math.log(3), rel=1e-12)
    assert histogram.unpack(seen.latency_bins).tolist() == histogram.from_us([1000, 3000]).tolist()


def outline(at_us: int, **changes: object) -> dict[str, object]:
    return {"ts": at_us, "status": 200, "us": 1500, "shadow": False, "kept": False} | changes


def test_what_was_sampled_out_is_in_the_sums_and_not_in_the_rows(
    endpoint: Endpoint, now: datetime
) -> None:
    pk = endpoint.revisions.get(number=1).pk
    path = segment(
        pk,
        [
            record(START_US, us=1000, share=0.25),
            outline(START_US, us=2000),
            outline(START_US, us=3000, shadow=True),
            outline(START_US, us=-1),
            record(START_US, share=0),
            record(START_US, share="all"),
            record(START_US, share=1.5),
        ],
    )
    count(path, now=now)
    assert dict(spans().values_list("origin", "requests")) == {"server": 2, "shadow": 1}
    asked = spans().get(origin="server")
    assert histogram.unpack(asked.latency_bins).tolist() == histogram.from_us([1000, 2000]).tolist()
    row = Segment.objects.get()
    assert (row.rows, row.torn) == (1, 4)
    whole = segments.read(path, whole=True)
    assert (whole.rows, whole.share, len(whole.at_us), whole.torn) == (1, [0.25], 1, 4)


def test_a_segment_of_nothing_but_outlines_is_counted_and_goes(
    endpoint: Endpoint, now: datetime
) -> None:
    path = segment(endpoint.revisions.get(number=1).pk, [outline(START_US), outline(START_US)])
    count(path, now=now)
    assert spans().get().requests == 2
    assert Segment.objects.get().rows == 0
    assert not path.exists()


def test_late_rows_add_to_the_span_they_belong_to(endpoint: Endpoint, now: datetime) -> None:
    revision = endpoint.revisions.get(number=1)
    for latency in (1000, 5000, 90_000):
        count(segment(revision.pk, [record(START_US, us=latency)]), now=now)
    row = spans().get()
    assert (row.requests, row.latency_count) == (3, 3)
    expected = histogram.from_us([1000, 5000, 90_000])
    assert histogram.unpack(row.latency_bins).tolist() == expected.tolist()


def test_two_segments_of_one_batch_and_two_revisions(endpoint: Endpoint, now: datetime) -> None:
    one, two = endpoint.revisions.order_by("number")
    paths = [
        segment(one.pk, [record(START_US)]),
        segment(one.pk, [record(START_US), record(START_US, status=503)]),
        segment(two.pk, [record(START_US)]),
    ]
    count(*paths, now=now)
    seen = spans().values_list("revision", "requests", "server_errors")
    assert set(seen) == {(one.pk, 3, 1), (two.pk, 1, 0)}


def test_a_segment_is_counted_once(endpoint: Endpoint, now: datetime) -> None:
    path = segment(endpoint.revisions.all()[0].pk, [record(START_US)])
    assert count(path, now=now) == {endpoint.pk}
    assert count(path, now=now) == set()
    assert spans().get().requests == 1
    assert Segment.objects.count() == 1


def test_a_failure_among_the_sums_leaves_nothing(
    endpoint: Endpoint, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = segment(endpoint.revisions.all()[0].pk, [record(START_US)])

    def fail(*_: object) -> None:
        raise IntegrityError("cut off")

    with monkeypatch.context() as broken:
        broken.setattr(rollups, "add", fail)
        with pytest.raises(IntegrityError):
            count(path, now=now)
    assert not Segment.objects.exists()
    count(path, now=now)
    assert spans().get().requests == 1


def test_torn_lines_and_drops_are_counted(
    endpoint: Endpoint, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    good = record(START_US)
    hostile = [
        record(START_US, ts=10**30),
        record(-5),
        record(START_US, us="1"),
        record(START_US, shadow=1),
        record(START_US, status=True),
        {"dropped": -1},
    ]
    tail = b'[1]\n{"dropped":7,"ts":1}\n{"dropped":2,"ts":1}\n' + json.dumps(good).encode()[:-9]
    path = segment(endpoint.revisions.all()[0].pk, [good, *hostile], tail=tail)
    with caplog.at_level(logging.WARNING):
        count(path, now=now)
    row = Segment.objects.get()
    assert (row.rows, row.dropped, row.torn) == (1, 9, 8)
    assert spans().get().requests == 1
    assert "8 torn lines" in caplog.text


def test_a_last_line_that_lacks_only_its_end_is_whole(endpoint: Endpoint, now: datetime) -> None:
    tail = json.dumps(record(START_US)).encode()
    count(segment(endpoint.revisions.all()[0].pk, [], tail=tail), now=now)
    assert spans().get().requests == 1


def test_a_segment_without_records_is_counted_and_goes(endpoint: Endpoint, now: datetime) -> None:
    path = segment(endpoint.revisions.all()[0].pk, [], tail=b'{"dropped":3,"ts":1}\n')
    count(path, now=now)
    assert Segment.objects.get().dropped == 3
    assert not path.exists()
    assert not spans().exists()


def test_a_segment_of_no_revision_is_set_aside(
    endpoint: Endpoint, now: datetime, var: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = segment(987_654, [record(START_US)])
    assert count(path, now=now) == set()
    assert not path.exists()
    kept = var / "spool" / "rejected" / f"987654.{path.name}"
    assert json.loads(kept.read_bytes())["ts"] == START_US
    assert "There is no revision 987654" in caplog.text
    assert not Segment.objects.exists()


def test_a_link_is_never_followed(endpoint: Endpoint, now: datetime, var: Path) -> None:
    path = segment(endpoint.revisions.all()[0].pk, [record(START_US)])
    secret = var / "secret"
    path.rename(secret)
    path.symlink_to(secret)
    count(path, now=now)
    assert secret.exists()
    assert (var / "spool" / "rejected" / f"{path.parent.name}.{path.name}").is_symlink()
    assert not spans().exists()
    os.mkfifo(path)
    with pytest.raises(segments.Unreadable, match="no regular file"):
        segments.read(path)


def test_rollups_add_under_their_key(endpoint: Endpoint) -> None:
    pk = endpoint.revisions.all()[0].pk
    seconds = START_US // 1_000_000
    for origin in (Rollup.From.GATEWAY, Rollup.From.SERVER, Rollup.From.SERVER):
        rollups.add({(pk, seconds): Sums(requests=1)}, origin)
    seen = dict(spans().values_list("origin", "requests"))
    assert seen == {"gateway": 1, "server": 2}


def test_an_abandoned_segment_is_sealed_and_one_in_use_is_not(
    endpoint: Endpoint, var: Path
) -> None:
    import fcntl

    folder = var / "spool" / "1"
    folder.mkdir(parents=True)
    left, used, young = (folder / f"1.{i}.1-1.00000000.open" for i in range(3))
    for path in (left, used, young):
        path.write_bytes(b"{}\n")
    later = datetime.fromtimestamp(left.stat().st_mtime, UTC) + timedelta(seconds=61)
    os.utime(young, (later.timestamp(), later.timestamp()))
    with used.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        leftovers.seal_abandoned(now=later)
    assert left.with_suffix(".seg").exists()
    assert used.exists()
    assert young.exists()
