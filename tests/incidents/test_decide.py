"""When a monitor fires and when it has ended; which alerts have one cause; what a title says."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.incidents.decide import Cause, Named, belongs, decide, title
from apps.incidents.lifecycle import (
    Action,
    Need,
    Past,
    Reading,
    Severity,
    Standing,
    Verdict,
    WatchState,
)

START = datetime(2030, 1, 7, 12, 0, tzinfo=UTC)
TWO_OF_THREE = Need(2, 3)
VERDICTS = {"R": Verdict.RIGHT, "W": Verdict.WRONG, "C": Verdict.WRONG, "?": Verdict.UNKNOWN}


def minute(number: int) -> datetime:
    return START + timedelta(minutes=number)


def walk(letters: str, need: Need, *, is_muted: bool = False) -> tuple[str, Standing]:
    """Right, Wrong, Critical or ? (not enough data), a minute apart: what each one did."""
    standing, done = Standing(), ""
    for number, letter in enumerate(letters):
        severity = Severity.CRITICAL if letter == "C" else Severity.WARNING
        reading = Reading(minute(number), VERDICTS[letter], "", severity)
        decision = decide(standing, reading, need, is_muted=is_muted)
        standing, done = decision.standing, done + decision.action.value[0]
    return done, standing


@pytest.mark.parametrize(
    ("letters", "done"),
    [
        ("", ""),
        ("RRRR", "kkkk"),
        ("W", "k"),
        ("WW", "kf"),
        ("WRW", "kkf"),
        ("WRRW", "kkkk"),
        ("WWR", "kfk"),  # one right window does not end it
        ("WWRR", "kfkc"),
        ("WWRWRR", "kfkkkc"),
        ("WWRRWW", "kfkckf"),  # it fires anew only after two of three
        ("W?W", "kkf"),  # a window without data is no window
        ("WW?R?R", "kfkkkc"),
        ("WW????", "kfkkkk"),
        ("????", "kkkk"),
        ("CC", "kf"),
        ("WWCC", "kfke"),
        ("WWCWC", "kfkke"),
        ("CCW", "kfk"),
    ],
)
def test_two_of_three(letters: str, done: str) -> None:
    assert walk(letters, TWO_OF_THREE)[0] == done


@pytest.mark.parametrize(
    ("letters", "done"), [("W", "f"), ("WR", "fc"), ("W?W", "fkk"), ("WC", "fe"), ("C", "f")]
)
def test_one_window(letters: str, done: str) -> None:
    assert walk(letters, Need())[0] == done


def test_what_never_had_data_waits_and_the_first_window_ends_that() -> None:
    assert walk("??", Need())[1] == Standing(WatchState.WAITING)
    assert walk("??R", Need())[1].state is WatchState.QUIET


def test_severity_is_that_of_as_many_windows() -> None:
    assert walk("CC", TWO_OF_THREE)[1].severity is Severity.CRITICAL
    assert walk("WC", TWO_OF_THREE)[1].severity is Severity.WARNING
    assert walk("CCRR", TWO_OF_THREE)[1] == Standing(
        WatchState.QUIET,
        None,
        (Past(minute(1), True, True), Past(minute(2), False), Past(minute(3), False)),
    )


def test_a_muted_watch_fires_nothing_and_fires_as_soon_as_it_may() -> None:
    done, standing = walk("WWW", TWO_OF_THREE, is_muted=True)
    assert (done, standing.state) == ("kkk", WatchState.QUIET)
    wrong = Reading(minute(3), Verdict.WRONG, "")
    assert decide(standing, wrong, TWO_OF_THREE).action is Action.FIRE


def test_a_muted_watch_that_fires_does_not_escalate_but_may_end() -> None:
    _, standing = walk("W", Need())
    worse = Reading(minute(1), Verdict.WRONG, "", Severity.CRITICAL)
    right = Reading(minute(1), Verdict.RIGHT, "")
    assert decide(standing, worse, Need(), is_muted=True).action is Action.KEEP
    assert decide(standing, right, Need(), is_muted=True).action is Action.CLEAR


def test_when_a_mute_ends_a_milder_window_is_not_told_as_critical() -> None:
    """The mail of it was never sent: the alert took the milder window's severity."""
    standing = walk("WW", TWO_OF_THREE)[1]
    for number, severity in ((2, Severity.CRITICAL), (3, Severity.CRITICAL)):
        worse = Reading(minute(number), Verdict.WRONG, "", severity)
        standing = decide(standing, worse, TWO_OF_THREE, is_muted=True).standing
    milder = decide(standing, Reading(minute(4), Verdict.WRONG, ""), TWO_OF_THREE)
    assert (milder.action, milder.standing.severity) == (Action.KEEP, Severity.WARNING)
    again = Reading(minute(4), Verdict.WRONG, "", Severity.CRITICAL)
    worse_still = decide(standing, again, TWO_OF_THREE)
    assert worse_still.action is Action.ESCALATE


def test_what_a_person_held_must_be_right_before_it_fires_again() -> None:
    standing = Standing(WatchState.HELD, None, (Past(minute(0), True), Past(minute(1), True)))
    still = decide(standing, Reading(minute(2), Verdict.WRONG, ""), TWO_OF_THREE)
    assert (still.action, still.standing.state) == (Action.KEEP, WatchState.HELD)
    one = decide(still.standing, Reading(minute(3), Verdict.RIGHT, ""), TWO_OF_THREE)
    two = decide(one.standing, Reading(minute(4), Verdict.RIGHT, ""), TWO_OF_THREE)
    assert (two.action, two.standing.state) == (Action.KEEP, WatchState.QUIET)


@pytest.mark.parametrize("ago", [0, 1, 60])
def test_a_window_that_was_read_before_changes_nothing(ago: int) -> None:
    standing = Standing(WatchState.QUIET, None, (Past(START, True),))
    reading = Reading(START - timedelta(seconds=ago), Verdict.WRONG, "")
    assert decide(standing, reading, TWO_OF_THREE).standing == standing


def test_windows_from_before_a_long_gap_are_void() -> None:
    standing = Standing(WatchState.QUIET, None, (Past(START, True),))
    need = Need(2, 3, timedelta(minutes=12))
    near, far = (
        decide(standing, Reading(minute(after), Verdict.WRONG, ""), need) for after in (12, 13)
    )
    assert (near.action, far.action) == (Action.FIRE, Action.KEEP)
    assert far.standing.history == (Past(minute(13), True),)


def cause(revision: int | None, minutes: int, *columns: str) -> Cause:
    return Cause(revision, (minute(minutes),), frozenset(columns))


@pytest.mark.parametrize(
    ("alert", "joins"),
    [
        (cause(3, 60), True),
        (cause(3, 61), False),
        (cause(3, -60), True),
        (cause(4, 0), False),
        (cause(4, 0, "distance"), False),
        (cause(None, 60), True),  # of the endpoint as a whole
        (cause(None, 61), False),
        (cause(3, 5_000, "distance"), True),
        (cause(3, 5_000, "carrier"), False),
    ],
)
def test_what_has_one_cause(alert: Cause, joins: bool) -> None:
    incidents = [(7, cause(3, 0, "distance", "origin"))]
    assert belongs(alert, incidents) == (7 if joins else None)


def test_it_joins_the_oldest_that_fits() -> None:
    incidents = [(1, cause(2, 0)), (2, cause(3, 0)), (3, cause(3, 0))]
    assert belongs(cause(3, 1), incidents) == 2
    assert belongs(cause(3, 1), []) is None


def drift(column: str, rank: float, *, is_critical: bool = False) -> Named:
    return Named("drift", f"Drift of {column}", column, "v3", rank, is_critical)


@pytest.mark.parametrize(
    ("alerts", "words"),
    [
        ([], "Nothing is wrong any more"),
        ([drift("distance", 0.2)], "Drift: distance of v3"),
        ([drift("origin", 0.1), drift("distance", 0.2)], "Drift: distance, origin of v3"),
        (
            [drift(name, rank) for rank, name in enumerate(["a", "b", "c", "origin", "distance"])],
            "Drift: distance, origin and 3 more of v3",
        ),
        (
            [drift("distance", 0.2), Named("errors", "Errors 4.1 %", "", "v3", 0, True)],
            "Errors 4.1 % of v3; Drift: distance of v3",
        ),
        (
            [
                drift("distance", 0.2, is_critical=True),
                Named("missing", "distance 4 % missing", "distance", "v3", 0.1),
                Named("freshness", "No request for 3 h"),
            ],
            "Drift: distance of v3; Missing values: distance of v3 and 1 more",
        ),
    ],
)
def test_a_title_names_the_worst_first(alerts: list[Named], words: str) -> None:
    assert title(alerts) == words
