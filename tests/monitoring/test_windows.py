"""Tiers cover a window exactly, as coarse as they can; old edges widen to what is still there."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from apps.monitoring import windows
from apps.registry.policy import RolloutPlan

AT = datetime(2030, 1, 1, tzinfo=UTC)
WIDTHS = {10: AT, 60: AT, 3_600: AT, 86_400: AT}


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def test_the_coarsest_spans_are_taken() -> None:
    assert windows.cover(at(3_590), at(90_030), WIDTHS) == [
        (10, at(3_590), at(3_600)),
        (3_600, at(3_600), at(90_000)),
        (10, at(90_000), at(90_030)),
    ]
    assert windows.cover(at(0), at(2 * 86_400), WIDTHS) == [(86_400, at(0), at(2 * 86_400))]


def test_spans_of_the_finest_width_count_that_begin_within() -> None:
    assert windows.cover(at(3), at(11), WIDTHS) == [(10, at(10), at(20))]
    assert windows.cover(at(3), at(10), WIDTHS) == []
    assert windows.cover(at(20), at(10), WIDTHS) == []


def test_an_edge_that_only_a_coarser_width_has_is_widened() -> None:
    kept = {10: at(7_000), 60: at(3_600), 3_600: AT, 86_400: AT - timedelta(days=9)}
    assert windows.cover(at(100), at(7_300), kept) == [
        (3_600, at(0), at(7_200)),
        (60, at(7_200), at(7_260)),
        (10, at(7_260), at(7_300)),
    ]
    assert windows.cover(at(-86_000), at(-10), kept) == [(86_400, at(-86_400), at(0))]


@given(
    since=st.integers(0, 300_000),
    length=st.integers(1, 300_000),
    ages=st.lists(st.integers(0, 300_000), min_size=3, max_size=3).map(sorted),
)
def test_parts_join_and_hold_the_window(since: int, length: int, ages: list[int]) -> None:
    widths = [86_400, 3_600, 60]
    kept = {w: windows.up(at(age), w) for w, age in zip(widths, ages, strict=True)}
    kept[86_400] = AT
    kept[10] = windows.up(at(ages[2]), 60)
    first, last = windows.up(at(since), 10), windows.up(at(since + length), 10)
    parts = windows.cover(at(since), at(since + length), kept)
    if first == last:
        assert parts == []
        return
    assert parts[0][1] <= first
    assert parts[-1][2] >= last
    assert all(a[2] == b[1] for a, b in pairwise(parts))
    for width, start, end in parts:
        assert windows.down(start, width) == start < end == windows.down(end, width)
        assert start >= kept[width]
    if first >= kept[10]:
        assert (parts[0][1], parts[-1][2]) == (first, last)


def test_what_is_kept_begins_with_a_whole_span() -> None:
    oldest = windows.oldest({10: timedelta(seconds=95), 86_400: windows.FOREVER}, at(101))
    assert oldest == {10: at(10), 86_400: datetime(1970, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("step", "since", "expected"),
    [
        (30, 7_200, (30, 10)),
        (120, 7_200, (120, 60)),
        (30, 3_600, (60, 60)),
        (86_400, 0, (86_400, 3_600)),
    ],
)
def test_a_step_is_made_of_the_widest_spans_that_fit(
    step: int, since: int, expected: tuple[int, int]
) -> None:
    kept = {10: at(7_000), 60: at(3_600), 3_600: AT}
    assert windows.step_for(at(since), step, kept) == expected


@pytest.mark.parametrize("step", [0, -10, 15])
def test_a_step_is_a_multiple_of_the_finest_width(step: int) -> None:
    with pytest.raises(ValueError, match="multiple of 10 seconds"):
        windows.step_for(AT, step, WIDTHS)


def test_the_finest_spans_outlive_the_longest_step_of_a_rollout() -> None:
    """Kept for two days, they judged a step that held for three by two of them."""
    plan = {"steps": [{"weight": 100, "hold_seconds": 604_800}]}
    longest = RolloutPlan.model_validate(plan).steps[0].hold_seconds
    with pytest.raises(ValidationError):
        RolloutPlan.model_validate({"steps": [{"weight": 100, "hold_seconds": longest + 1}]})
    assert windows.ROLLUPS[10] > timedelta(seconds=longest)
