"""What replicas use: counted once each look, whatever restarts, and read in every tier."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from apps.builds.models import Build
from apps.core import live
from apps.monitoring import usage
from apps.monitoring.collector import Collector
from apps.monitoring.models import ReplicaLook, ReplicaUse
from apps.monitoring.selectors import usage as selectors
from apps.monitoring.services import leftovers
from apps.monitoring.services import usage as services
from apps.monitoring.usage import Known, Look, Used, count
from apps.serving.models import Endpoint, Replica, Revision
from tests.serving.cast import put_serving

T0 = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


# ---- one look after the other -----------------------------------------------------------------


def look(at: float, processor: float | None, started: float = -3600, **gauges: int) -> Look:
    return Look(after(at), after(started), processor, **gauges)


def counted(*looks: Look) -> list[Used | None]:
    known, found = Known(), []
    for one in looks:
        answer = count(known, one)
        found.append(None if answer is None else answer[1])
        known = known if answer is None else answer[0]
    return found


def test_time_is_used_between_two_looks_at_a_process() -> None:
    first, second = counted(look(0, 500.0, memory_mb=90, in_flight=2), look(10, 505.0))
    assert first == Used(memory_mb=90, in_flight=2)  # what was before nobody saw
    assert first.processors is None
    assert second == Used(5.0, 10.0)
    assert second.processors == 0.5


def test_a_look_counts_once_and_an_older_one_not_at_all() -> None:
    found = counted(look(0, 1.0), look(0, 1.0), look(-3, 0.5), look(10, 2.0), look(7, 1.7))
    assert found == [Used(), None, None, Used(1.0, 10.0), None]


def test_a_new_process_begins_at_nothing() -> None:
    old, new, on = counted(look(0, 900.0), look(10, 3.0, started=4), look(20, 4.0, started=4))
    assert (old, new, on) == (Used(), Used(3.0, 6.0), Used(1.0, 10.0))


def test_a_start_of_just_now_is_counted_with_the_next_look() -> None:
    found = counted(look(0, 900.0), look(10, 0.9, started=9), look(20, 2.2, started=9))
    assert found == [Used(), Used(), Used(2.2, 11.0)]


def test_the_first_look_at_a_young_process_counts_its_start() -> None:
    assert counted(look(0, 6.0, started=-20)) == [Used(6.0, 20.0)]


def test_a_child_that_is_missed_once_counts_once() -> None:
    # It ended while the processes were read: its 100 s come back in its parent's.
    found = counted(look(0, 300.0), look(10, 200.0), look(20, 302.0), look(30, 303.0))
    assert found == [Used(), Used(), Used(2.0, 20.0), Used(1.0, 10.0)]


def test_time_that_is_lost_for_good_is_forgotten_at_the_second_look() -> None:
    # What is used until the old figure is reached again would count as nothing.
    found = counted(look(0, 20.0), look(10, 2.0), look(20, 12.0), look(30, 22.0), look(40, 32.0))
    assert found == [Used(), Used(), Used(), Used(10.0, 10.0), Used(10.0, 10.0)]


def test_a_look_too_soon_is_no_fall() -> None:
    found = counted(look(0, 300.0), look(1, 300.5), look(11, 200.0), look(21, 302.25))
    assert found == [Used(), Used(), Used(), Used(2.25, 21.0)]


def test_what_nobody_saw_for_a_minute_is_not_spread_over_it() -> None:
    assert counted(look(0, 1.0), look(61, 50.0), look(71, 51.0)) == [
        Used(), Used(), Used(1.0, 10.0),
    ]  # fmt: skip


def test_a_clock_that_is_set_back_makes_no_negative_use() -> None:
    # A little: nothing until it has passed what was counted. Much: on from there.
    little = counted(look(0, 1.0), look(-5, 2.0), look(5, 3.0))
    assert little == [Used(), None, Used(2.0, 5.0)]
    much = counted(look(0, 1.0), look(-7200, 2.0), look(-7190, 3.0))
    assert much == [Used(), Used(), Used(1.0, 10.0)]


def test_a_clock_that_is_set_forward_is_a_gap() -> None:
    found = counted(look(0, 1.0), look(7200, 2.0), look(7210, 3.0))
    assert found == [Used(), Used(), Used(1.0, 10.0)]


def test_who_cannot_tell_is_no_zero() -> None:
    found = counted(look(0, 1.0), look(10, None, in_flight=0), look(20, 9.0), look(30, 9.5))
    assert found == [Used(), Used(in_flight=0), Used(), Used(0.5, 10.0)]
    assert found[1] is not None
    assert (found[1].processors, found[1].memory_mb) == (None, None)


def test_without_a_start_a_fall_is_no_use() -> None:
    looks = [replace(look(at, used), started_at=None) for at, used in ((0, 5.0), (10, 4.0))]
    assert counted(*looks) == [Used(), Used()]


# ---- rows -------------------------------------------------------------------------------------


@pytest.fixture
def revision(endpoint: Endpoint) -> Revision:
    put_serving(
        endpoint.model,
        scaling={"in_flight_per_replica": 8},
        resources={"memory_mb": 512, "processors": 2},
    )
    return endpoint.revisions.get(number=1)


def seen(revision: Revision, at: float, index: int = 0, **figures: object) -> None:
    """As serving's sweep writes it."""
    values = {"ready": True, "started_at": after(-3600), "read_at": after(at)} | figures
    Replica.objects.update_or_create(revision=revision, index=index, defaults=values)


def spans(width: int = 60) -> list[ReplicaUse]:
    return list(ReplicaUse.objects.filter(width_seconds=width).order_by("at", "index"))


def looked(revision: Revision, until: int, *, index: int = 0) -> None:
    """Every ten seconds: half a processor, 100 MB and one more, 0 to 3 in flight."""
    for at in range(0, until, 10):
        seen(
            revision, at, index, processor_seconds=at / 2, memory_mb=100 + at // 10,
            in_flight=at // 10 % 4,
        )  # fmt: skip
        services.count()


def test_looks_become_sums_and_maxima_of_a_minute(revision: Revision) -> None:
    looked(revision, 120)
    first, second = spans()
    assert (first.at, second.at) == (T0, after(60))
    assert (first.processor_seconds, first.measured_seconds) == (25.0, 50.0)
    assert (second.processor_seconds, second.measured_seconds) == (30.0, 60.0)
    assert second.most_processors == 0.5
    assert (first.memory_looks, first.memory_mb_sum, first.most_memory_mb) == (6, 615, 105)
    assert (first.in_flight_looks, first.in_flight_sum, first.most_in_flight) == (6, 7, 3)
    assert (first.processors_limit, first.memory_limit_mb, first.in_flight_limit) == (2, 512, 8)


def test_coarse_is_the_sum_of_fine(revision: Revision) -> None:
    looked(revision, 600)
    for width, number in ((300, 2), (3600, 1)):
        wide = spans(width)
        assert len(wide) == number
        for one in wide:
            end = one.at + timedelta(seconds=width)
            fine = [row for row in spans() if one.at <= row.at < end]
            assert one.processor_seconds == sum(row.processor_seconds for row in fine)
            assert one.memory_looks == sum(row.memory_looks for row in fine)
            assert one.most_memory_mb == max(row.most_memory_mb or 0 for row in fine)


def test_a_look_is_counted_once_by_whoever_comes(revision: Revision) -> None:
    seen(revision, 0, memory_mb=100)
    assert services.count() == {revision.endpoint_id}
    assert services.count() == set()
    seen(revision, 10, memory_mb=100)
    assert services.count() == set()  # the minute is the same: no page need look again
    seen(revision, 60, memory_mb=100)
    assert services.count() == {revision.endpoint_id}
    assert [row.memory_looks for row in spans()] == [2, 1]


@transaction.atomic
def killed_before_the_commit() -> None:
    services.count()
    raise KeyboardInterrupt


def test_cut_off_before_it_commits_nothing_is_lost_or_twice(revision: Revision) -> None:
    seen(revision, 0, processor_seconds=1.0, memory_mb=100)
    services.count()
    seen(revision, 10, processor_seconds=4.0, memory_mb=100)
    with pytest.raises(KeyboardInterrupt):
        killed_before_the_commit()
    assert spans()[0].processor_seconds == 0.0
    services.count()
    services.count()
    [span] = spans()
    assert (span.processor_seconds, span.measured_seconds, span.memory_looks) == (3.0, 10.0, 2)


@pytest.mark.django_db(transaction=True)
def test_two_at_once_count_a_look_once(revision: Revision) -> None:
    """Also the first one, of which there is no row yet that could be locked."""
    both = threading.Barrier(2)

    def counts() -> None:
        try:
            both.wait(30)
            services.count()
        finally:
            connection.close()

    for at in (0, 10, 20):
        seen(revision, at, processor_seconds=float(at), memory_mb=100)
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(counts) for _ in range(2)]:
                done.result()
    [span] = spans()
    assert (span.memory_looks, span.memory_mb_sum) == (3, 300)
    assert (span.processor_seconds, span.measured_seconds) == (20.0, 20.0)


def test_a_replica_that_is_gone_leaves_its_history_and_no_more(revision: Revision) -> None:
    looked(revision, 30)
    looked(revision, 30, index=1)
    Replica.objects.filter(index=1).delete()
    seen(revision, 40, processor_seconds=20.0)
    services.count()
    assert [(row.index, row.memory_looks) for row in spans()] == [(0, 4), (1, 3)]
    services.forget_gone(now=after(86_000))
    assert ReplicaLook.objects.count() == 2
    services.forget_gone(now=after(86_500))
    assert [row.index for row in ReplicaLook.objects.all()] == [0]


def test_of_a_remote_server_only_what_is_in_flight_is_known(revision: Revision) -> None:
    Build.objects.filter(pk=revision.build_id).update(flavors=["url"])
    seen(revision, 0, processor_seconds=1.0, memory_mb=40, in_flight=3)
    services.count()
    seen(revision, 10, processor_seconds=2.0, memory_mb=40, in_flight=4)
    services.count()
    [span] = spans()
    assert (span.measured_seconds, span.most_processors) == (0.0, None)
    assert (span.memory_looks, span.most_memory_mb, span.memory_limit_mb) == (0, None, None)
    assert (span.in_flight_looks, span.in_flight_sum, span.in_flight_limit) == (2, 7, 8.0)


def test_nothing_to_look_at_is_nothing_to_count(revision: Revision) -> None:
    assert services.count() == set()
    Replica.objects.create(revision=revision, index=0, ready=False)  # never read
    assert services.count() == set()
    assert not ReplicaUse.objects.exists()


def test_each_tier_goes_in_its_time(revision: Revision) -> None:
    looked(revision, 10)
    for days, left in ((13, [60, 300, 3600]), (15, [300, 3600]), (32, [3600]), (401, [])):
        leftovers.sweep(now=T0 + days * DAY)
        assert [row.width_seconds for row in ReplicaUse.objects.order_by("width_seconds")] == left


def test_the_collector_looks_every_ten_seconds(
    revision: Revision, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(live, "publish", told.append)
    clock = [0.0]
    works = Collector(now=lambda: T0, clock=lambda: clock[0])
    for seconds in (0.0, 5.0, 10.0):
        clock[0] = seconds
        seen(revision, seconds, memory_mb=100)
        works.tick()
    assert [row.memory_looks for row in spans()] == [2]
    assert told == [f"endpoint:{revision.endpoint_id}"]


def test_the_collector_forgets_replicas_that_are_gone(revision: Revision) -> None:
    clock = [0.0]
    works = Collector(now=lambda: T0 + 2 * DAY, clock=lambda: clock[0])
    looked(revision, 10)
    Replica.objects.all().delete()
    works.tick()
    assert ReplicaLook.objects.count() == 1
    clock[0] = 61.0
    works.tick()
    assert not ReplicaLook.objects.exists()


# ---- questions --------------------------------------------------------------------------------


def test_series_hold_means_maxima_and_limits(revision: Revision) -> None:
    looked(revision, 120)
    [one] = selectors.series(revision.endpoint, T0, after(180), 30, now=after(200))
    assert (one.revision, one.index) == (revision, 0)
    assert one.at == [T0, after(60), after(120)]
    assert one.processors.mean == [0.5, 0.5, None]
    assert one.processors.limit == [2.0, 2.0, None]
    assert one.memory_mb.mean == [102.5, 108.5, None]
    assert one.memory_mb.most == [105.0, 111.0, None]
    assert one.in_flight.mean == [pytest.approx(7 / 6), pytest.approx(11 / 6), None]
    assert one.in_flight.most == [3.0, 3.0, None]
    assert selectors.series(revision.endpoint, T0, after(180), 30, among=[2]) == []


def test_old_steps_are_as_long_as_what_is_left(revision: Revision) -> None:
    looked(revision, 600)
    later = T0 + 20 * DAY
    leftovers.sweep(now=later)
    [one] = selectors.series(revision.endpoint, T0, after(600), 60, now=later)
    assert one.at == [T0, after(300)]
    assert one.memory_mb.most == [129.0, 159.0]
    ancient = T0 - 500 * DAY
    assert selectors.series(revision.endpoint, ancient, ancient + DAY, 3600, now=later) == []


def test_too_many_steps_are_refused(revision: Revision) -> None:
    with pytest.raises(ValueError, match="too many"):
        selectors.series(revision.endpoint, T0 - 10 * DAY, T0, 60, now=T0)
    with pytest.raises(ValueError, match="after the beginning"):
        selectors.series(revision.endpoint, T0, T0, 60, now=T0)


def test_a_window_is_summed_by_revision(revision: Revision) -> None:
    looked(revision, 120)
    looked(revision, 60, index=1)
    [row] = selectors.totals(revision.endpoint, after(60), after(120), now=after(200))
    assert (row.revision, row.replicas) == (revision, 1)
    [row] = selectors.totals(revision.endpoint, T0, after(120), now=after(200))
    assert row.replicas == 2
    assert (row.processors.mean, row.processors.most, row.processors.limit) == (0.5, 0.5, 2.0)
    assert (row.memory_mb.mean, row.memory_mb.most) == ((1266 + 615) / 18, 111.0)
    assert (row.in_flight.most, row.in_flight.limit) == (3.0, 8.0)
    assert selectors.totals(revision.endpoint, after(600), after(660), now=after(700)) == []


def test_kept_spans_are_those_of_rollups() -> None:
    assert usage.KEPT == {60: 14 * DAY, 300: 31 * DAY, 3600: 400 * DAY}


def test_a_day_has_steps_of_a_quarter_of_an_hour(revision: Revision) -> None:
    looked(revision, 600)
    [one] = selectors.series(revision.endpoint, T0, T0 + DAY, 900, now=T0 + DAY)
    assert len(one.at) == 96
    assert one.memory_mb.most[:2] == [159.0, None]
