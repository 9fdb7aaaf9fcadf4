"""Slices that are made after labels were joined count them too: each once, whatever happens."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.test import Client

from apps.accounts.models import User
from apps.monitoring.models import RowFile, Slice
from apps.monitoring.services import slices as slicing
from apps.quality import selectors
from apps.quality.models import Labelled, Lookback, Marks
from apps.quality.services import feedback, joining, predictions, slices, sums
from apps.serving.models import Endpoint, Revision
from tests.people import Cast, bearer
from tests.quality import making
from tests.quality.making import SCORE, START

pytestmark = pytest.mark.django_db
FAR = [{"column": "in.kind", "op": "eq", "value": "far"}]
SPAN = "since=2030-01-07T10:00:00Z&until=2030-01-07T13:00:00Z"


def send(sender: User, labels: dict[str, Any], now: datetime) -> None:
    batch = [{"request_id": id_, "label": label} for id_, label in labels.items()]
    feedback.send(sender=sender, batch=batch, now=now)


def ids(first: int, last: int) -> Sequence[str]:
    return [f"r{i}" for i in range(first, last)]


def file(revision: Revision, first: int, last: int, **fixed: Any) -> RowFile:
    """Rows a minute apart, every second one of which is far."""
    names = ids(first, last)
    return making.row_file(
        revision,
        names,
        {
            "out.0": np.random.default_rng(first).uniform(size=last - first),
            "in.kind": ["far" if i % 2 else "near" for i in range(first, last)],
        },
        at=[START + timedelta(minutes=i) for i in range(first, last)],
        **fixed,
    )


def part(endpoint: Endpoint, name: str, condition: Any = FAR) -> Slice:
    return Slice.objects.create(endpoint=endpoint, name=name, condition=condition, created_at=START)


def sums_of(one: Slice) -> list[tuple[Any, ...]]:
    rows = Marks.objects.filter(slice=one).order_by("revision", "shadow", "width_seconds", "at")
    found = rows.values_list("revision", "shadow", "width_seconds", "at", "labels", "sums")
    return [(*row[:-1], bytes(row[-1])) for row in found]


def labels_of(one: Slice) -> int:
    rows = Marks.objects.filter(slice=one, width_seconds=86_400)
    return sum(rows.values_list("labels", flat=True))


@pytest.fixture
def early(cast: Cast, endpoint: Endpoint, revision: Revision, now: datetime) -> Slice:
    """A slice that was there before its 40 labels were, of two revisions and of copies."""
    candidate = endpoint.revisions.get(number=2)
    for one in (revision, candidate):
        making.baseline(one.version, SCORE)
    made = part(endpoint, "early")
    file(revision, 0, 30)
    file(revision, 30, 40)
    file(candidate, 10, 20, shadow=[True] * 10)
    send(cast.owner, {name: i % 3 // 2 for i, name in enumerate(ids(0, 40))}, now)
    joining.sweep(now=now)
    return made


def test_a_slice_made_later_has_the_sums_of_one_made_before(early: Slice, now: datetime) -> None:
    late = part(early.endpoint, "late")
    other = part(early.endpoint, "near ones", [FAR[0] | {"op": "ne"}])
    before = list(Marks.objects.filter(slice=None).order_by("pk").values())

    joining.sweep(now=now + timedelta(seconds=5))

    assert len(sums_of(early)) > 25
    assert sums_of(late) == sums_of(early)
    assert (labels_of(early), labels_of(other)) == (25, 25)
    assert list(Marks.objects.filter(slice=None).order_by("pk").values()) == before
    assert set(Labelled.objects.get(request_id="r1").slices) == {early.pk, late.pk}
    assert Labelled.objects.get(request_id="r2").slices == [other.pk]
    assert not Lookback.objects.filter(done_at=None).exists()


def test_labels_and_corrections_that_come_later_count_in_both(
    cast: Cast, early: Slice, revision: Revision, now: datetime
) -> None:
    late = part(early.endpoint, "late")
    joining.sweep(now=now)
    file(revision, 40, 44)
    send(cast.owner, dict.fromkeys(ids(35, 44), 1) | {"r1": 0}, now + timedelta(seconds=5))
    joining.sweep(now=now + timedelta(seconds=5))

    assert labels_of(early) == 27
    assert sums_of(late) == sums_of(early)

    joining.sweep(now=now + timedelta(hours=1))
    assert labels_of(late) == 27


def test_it_goes_back_in_steps_newest_first_while_labels_are_corrected(
    cast: Cast, early: Slice, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "LABELS_AT_ONCE", 12)
    monkeypatch.setattr(slices, "STEPS", 1)
    late, endpoint = part(early.endpoint, "late"), early.endpoint
    assert selectors.looking_back(endpoint, START) == {late.pk: None}

    seen = []
    for step in range(1, 6):
        # Of those that were looked at and of those that were not.
        send(cast.owner, dict.fromkeys(ids(0, 40), step % 2), now + timedelta(seconds=step))
        joining.sweep(now=now + timedelta(seconds=step))
        seen.append((labels_of(late), selectors.looking_back(endpoint, START)))

    minutes = [28, 18, 12, 2]  # 28 to 39; then of two rows each down to 19; 18 to 12; …
    assert [labels for labels, _ in seen] == [6, 12, 18, 24, 25]
    assert [back.get(late.pk) for _, back in seen[:1]] == [START + timedelta(minutes=minutes[0])]
    joining.sweep(now=now + timedelta(seconds=7))
    assert selectors.looking_back(endpoint, START) == {}
    assert sums_of(late) == sums_of(early)


def test_a_window_that_is_counted_already_is_whole(
    early: Slice, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "LABELS_AT_ONCE", 12)
    monkeypatch.setattr(slices, "STEPS", 1)
    late = part(early.endpoint, "late")
    joining.sweep(now=now)

    assert selectors.looking_back(early.endpoint, START + timedelta(minutes=29)) == {}
    assert list(selectors.looking_back(early.endpoint, START)) == [late.pk]


def test_few_files_are_searched_at_once(
    early: Slice, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "CHUNK_ROWS", 5)
    monkeypatch.setattr(slices, "STEPS", 1)
    late = part(early.endpoint, "late")

    joining.sweep(now=now)
    # The newest file has minutes 30 to 39; the next one ends at 29.
    assert Lookback.objects.get(slice=late).at == START + timedelta(minutes=30)
    assert labels_of(late) == 5
    for step in range(1, 5):
        joining.sweep(now=now + timedelta(seconds=step))
    assert sums_of(late) == sums_of(early)


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_step_that_breaks_leaves_everything_as_it_was(
    early: Slice, now: datetime, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    late = part(early.endpoint, "late")
    write = sums.write

    def killed(*given: Any) -> None:
        if where == "after":
            write(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(sums, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            joining.sweep(now=now)
    assert sums_of(late) == []
    assert not Labelled.objects.filter(slices__contains=[late.pk]).exists()
    assert Lookback.objects.get(slice=late).at is None

    joining.sweep(now=now)
    assert sums_of(late) == sums_of(early)


def test_of_two_who_take_the_same_step_one_counts(
    early: Slice, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = part(early.endpoint, "late")
    slices.notice(now)
    inside = slices._inside

    def meanwhile(*given: Any) -> Any:
        found = dict(inside(*given))
        monkeypatch.setattr(slices, "_inside", inside)
        slices.look_back(now)
        return found.items()

    monkeypatch.setattr(slices, "_inside", meanwhile)
    slices.look_back(now)

    assert sums_of(late) == sums_of(early)


def test_a_slice_that_is_made_while_labels_are_joined_misses_none(
    cast: Cast, early: Slice, revision: Revision, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    file(revision, 40, 44)
    send(cast.owner, dict.fromkeys(ids(40, 44), 1), now)
    search = predictions.of

    def meanwhile(batch: Any) -> Any:
        part(early.endpoint, "late")
        return search(batch)

    with monkeypatch.context() as while_it_joins:
        while_it_joins.setattr(predictions, "of", meanwhile)
        joining.sweep(now=now)
    late = Slice.objects.get(name="late")
    assert sums_of(late) == []

    joining.sweep(now=now + timedelta(seconds=5))
    assert sums_of(late) == sums_of(early)
    assert labels_of(late) == 27


def test_a_slice_that_is_retired_is_looked_back_at_no_longer(
    cast: Cast, early: Slice, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "LABELS_AT_ONCE", 12)
    monkeypatch.setattr(slices, "STEPS", 1)
    late = part(early.endpoint, "late")
    joining.sweep(now=now)
    slicing.retire(part=late, actor=cast.owner, now=now)
    joining.sweep(now=now + timedelta(seconds=5))

    assert labels_of(late) == 6  # what was counted stays
    send(cast.owner, dict.fromkeys(ids(0, 40), 0), now + timedelta(seconds=6))
    joining.sweep(now=now + timedelta(seconds=6))
    assert labels_of(late) == 6
    for found in (early, late):  # corrections go out of it as out of the others
        kept = sums_of(found)
        labels = [np.frombuffer(row[-1], "<i8")[:200].reshape(50, 2, 2)[:, :, 1] for row in kept]
        assert sum(int(one.sum()) for one in labels) == 0


def test_a_slice_that_is_deleted_takes_its_sums_with_it_and_corrections_go_on(
    cast: Cast, early: Slice, now: datetime
) -> None:
    late = part(early.endpoint, "late")
    joining.sweep(now=now)
    late.delete()
    send(cast.owner, dict.fromkeys(ids(0, 40), 0), now + timedelta(seconds=5))
    joining.sweep(now=now + timedelta(seconds=5))

    assert labels_of(early) == 25
    assert set(Marks.objects.values_list("slice", flat=True)) == {None, early.pk}


def test_rows_that_the_log_holds_no_longer_are_in_no_new_slice(
    early: Slice, revision: Revision, now: datetime
) -> None:
    RowFile.objects.filter(revision=revision, first_at=START).delete()
    late = part(early.endpoint, "late")
    joining.sweep(now=now)

    # Of the stable revision minutes 30 to 39, of the candidate all.
    assert labels_of(late) == 5 + 5
    assert not Lookback.objects.filter(done_at=None).exists()


def test_of_an_id_that_was_used_twice_the_row_that_was_joined_decides(
    cast: Cast, endpoint: Endpoint, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, SCORE)
    for kind, second in (("far", 1), ("near", 0)):
        making.row_file(
            revision, ["a"], {"out.0": [0.9], "in.kind": [kind]},
            at=START + timedelta(seconds=second),
        )  # fmt: skip
    send(cast.owner, {"a": 1}, now)
    joining.sweep(now=now)
    late, other = part(endpoint, "late"), part(endpoint, "near", [FAR[0] | {"value": "near"}])
    joining.sweep(now=now)

    assert (labels_of(late), labels_of(other)) == (1, 0)


def test_sums_of_a_width_that_is_kept_no_longer_are_not_made_again(
    early: Slice, now: datetime
) -> None:
    late = part(early.endpoint, "late")
    joining.sweep(now=now + timedelta(days=5))

    widths = set(Marks.objects.filter(slice=late).values_list("width_seconds", flat=True))
    assert widths == {300, 3600, 86_400}
    assert labels_of(late) == 25


def test_page_and_api_say_that_a_slice_is_counting(
    cast: Cast, early: Slice, now: datetime, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "LABELS_AT_ONCE", 12)
    monkeypatch.setattr(slices, "STEPS", 1)
    late = part(early.endpoint, "late")
    url = f"/api/v1/endpoints/{late.endpoint_id}/quality?{SPAN}&slice={late.pk}"

    def told() -> tuple[bool, str | None, int]:
        answer = client.get(url, headers=bearer(cast.viewer)).json()
        return answer["is_counting"], answer["counted_back_to"], answer["labels"]

    assert told() == (True, None, 0)
    joining.sweep(now=now)
    assert told() == (True, "2030-01-07T11:28:00Z", 6)
    for _ in range(6):
        joining.sweep(now=now)
    assert told() == (False, None, 20)  # without the copies


def test_the_page_shows_which_slices_are_counting(cast: Cast, early: Slice, client: Client) -> None:
    late = part(early.endpoint, "late")
    client.force_login(cast.viewer)
    url = "/endpoints/production/flights/quality"
    text = client.get(url, {"window": "1y", "slice": str(late.pk)}).content.decode()

    assert "late has yet to count labels that came before it was made" in text
    assert text.count("still counting") == 1
    early_text = client.get(url, {"window": "1y", "slice": str(early.pk)}).content.decode()
    assert "has yet to count" not in early_text


def test_an_open_page_follows_the_counting_until_it_is_over(
    cast: Cast, early: Slice, now: datetime, client: Client
) -> None:
    late = part(early.endpoint, "late")
    client.force_login(cast.viewer)
    asked = {"window": "1y", "slice": str(late.pk)}
    live = f'data-live="endpoint:{late.endpoint_id}" hx-get="/endpoints/production/flights/quality?'

    def told(target: str) -> str:
        headers = {"HX-Request": "true", "HX-Target": target}
        url = "/endpoints/production/flights/quality"
        return client.get(url, asked, headers=headers).content.decode()

    assert told("measured").startswith(f'<div id="measured" class="stack" {live}')
    assert "late has yet to count" in told("measured")
    assert "still counting" in told("by-slice")
    assert live in told("by-slice")
    for _ in range(6):
        joining.sweep(now=now)
    assert told("measured").startswith('<div id="measured" class="stack">')
    assert "has yet to count" not in told("measured")
    assert "late" in told("by-slice")
    assert ("still counting" in told("by-slice"), live in told("by-slice")) == (False, False)
