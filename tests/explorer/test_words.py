"""Counts in words that people read: one is one."""

import pytest

from apps.explorer import runner
from apps.explorer.scan import Progress, Spec

SPEC = Spec({}, [], "", "", "", memory_mb=1, spill_mb=1, threads=1, seconds=5.0)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Progress(1, gone=1), "1 file went by age or size meanwhile"),
        (Progress(2, gone=2), "2 files went by age or size meanwhile"),
        (Progress(9, broken=["x: bad"]), "1 file could not be read: x: bad"),
        (
            Progress(3, done=2, stopped="enough"),
            "The newest rows that fit are here; 1 of 3 files holds only older ones and was not"
            " looked through",
        ),
    ],
)
def test_what_a_result_leaves_out_is_counted_in_words(told: Progress, words: str) -> None:
    assert runner._left_out(told, SPEC) == words
