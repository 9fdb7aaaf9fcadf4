"""The few numbers that many measurements become."""

import math

import pytest

from benchmarks.serving.figures import Shot, median, middle, percentile


def shot(requests: int, *, seconds: float = 1.0, cpu: float = 0.0) -> Shot:
    return Shot("ours", "linear", 8, seconds, requests, 0, 1.0, 1.0, 1.0, 1.0, cpu)


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1.0), (50, 5.0), (90, 9.0), (99, 10.0), (100, 10.0)]
)
def test_a_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    values = [float(value) for value in (7, 3, 10, 1, 5, 9, 2, 8, 4, 6)]
    assert percentile(values, percent) == expected


def test_of_nothing_there_is_no_percentile_and_no_median() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
    with pytest.raises(ValueError, match="no values"):
        median([])


def test_a_median_of_an_even_number_lies_between_two() -> None:
    assert median([4.0, 1.0, 3.0]) == 3.0
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.5


def test_the_median_round_is_whole_and_of_two_the_slower() -> None:
    rounds = [shot(300), shot(100), shot(200)]
    assert middle(rounds) is rounds[2]
    assert middle(rounds[:2]) is rounds[1]


def test_a_rate_counts_right_answers_and_processor_time_is_per_answer() -> None:
    seen = shot(500, seconds=2.0, cpu=0.25)
    assert (seen.rate, seen.cpu_ms) == (250.0, 0.5)
    assert shot(0).cpu_ms == math.inf
