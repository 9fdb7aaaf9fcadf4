"""When a change of weights is said to have reached traffic."""

from benchmarks.serving.switching import Change, first_new, last_old

CHANGE = Change(ordered=0.5, renamed=1.0, revision="2", until=2.0)
WATCHED = [
    (0.5, 0.75, "2"),  # of a change before
    (0.875, 1.125, "1"),  # under way when the file came
    (1.0625, 1.25, "1"),  # the last that the old revision got
    (1.125, 1.375, "2"),
    (1.25, 1.5, "2"),
    (2.0, 2.25, "1"),  # after the next change
]


def test_the_first_answer_of_the_new_revision_counts_from_the_rename() -> None:
    assert first_new(WATCHED, CHANGE) == 0.375


def test_the_last_request_of_the_old_revision_counts_by_its_start() -> None:
    assert last_old(WATCHED, CHANGE) == 0.0625


def test_a_change_that_nobody_saw_has_no_time() -> None:
    assert first_new(WATCHED[:3], CHANGE) is None
    assert last_old(WATCHED[3:5], CHANGE) == 0.0
