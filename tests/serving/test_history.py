"""What is remembered of a replica between two looks."""

from __future__ import annotations

from apps.serving.backends import history
from apps.serving.backends.history import Past, looked


def test_a_start_is_measured_until_it_was_seen_ready() -> None:
    new = looked(None, started=100.0, ready=False, now=101.0, words="")
    assert new == Past(started=100.0)
    ready = looked(new, started=100.0, ready=True, now=104.5, words="")
    assert ready == Past(started=100.0, ready_after=4.5)
    assert looked(ready, started=100.0, ready=True, now=200.0, words="") == ready


def test_an_end_is_counted_with_its_cause_and_silence_with_its_beginning() -> None:
    served = Past(started=100.0, ready_after=4.0)
    silent = looked(served, started=100.0, ready=False, now=150.0, words="")
    assert silent.silent_since == 150.0
    assert looked(silent, started=100.0, ready=False, now=160.0, words="") == silent
    again = looked(silent, started=170.0, ready=False, now=171.0, words="MemoryError")
    assert again == Past(started=170.0, failed=1, restarts=1, cause="MemoryError")
    third = looked(again, started=180.0, ready=False, now=181.0, words="")
    assert third == Past(started=180.0, failed=2, restarts=2, cause="It ended by itself")
    assert looked(third, started=180.0, ready=True, now=183.0, words="").failed == 0


def test_what_was_planned_says_more_than_last_words() -> None:
    planned = Past(started=100.0, ready_after=4.0, planned="It took too much")
    again = looked(planned, started=130.0, ready=False, now=131.0, words="stopped")
    assert again == Past(started=130.0, failed=1, restarts=1, cause="It took too much")


def test_what_cannot_be_read_is_forgotten() -> None:
    pasts = {"r1.0": Past(started=1.0, restarts=2)}
    assert history.read(history.written(pasts)) == pasts
    assert history.read({"r1.0": [1, 2], "r1.1": {"started": 3.0}}) == {"r1.1": Past(started=3.0)}
    assert history.read(["r1.0"]) == {}
