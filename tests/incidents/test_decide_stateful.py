"""Whatever is read and whatever people do: never two open alerts, no word said twice."""

from datetime import UTC, datetime, timedelta

from hypothesis import settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from apps.incidents.decide import decide
from apps.incidents.lifecycle import (
    Action,
    Need,
    Reading,
    Severity,
    Standing,
    Verdict,
    WatchState,
)

START = datetime(2030, 1, 7, tzinfo=UTC)


class Watching(RuleBasedStateMachine):
    """One watch with its alert, as the services keep them."""

    def __init__(self) -> None:
        super().__init__()
        self.need = Need()
        self.standing = Standing()
        self.at = START
        self.open: Severity | None = None  # the alert
        self.said: list[str] = []  # mails since it was opened
        self.seen: list[bool] = []  # windows with enough data, oldest first

    @initialize(times=strategies.integers(1, 4), more=strategies.integers(0, 3))
    def begin(self, times: int, more: int) -> None:
        self.need = Need(times, times + more)

    @rule(
        verdict=strategies.sampled_from(Verdict),
        severity=strategies.sampled_from(Severity),
        is_muted=strategies.booleans(),
        minutes=strategies.integers(-2, 5),
    )
    def read(self, verdict: Verdict, severity: Severity, is_muted: bool, minutes: int) -> None:
        until = self.at + timedelta(minutes=minutes)
        before = self.standing
        reading = Reading(until, verdict, "", severity)
        decision = decide(before, reading, self.need, is_muted=is_muted)
        self.standing = decision.standing
        if decision.action is Action.ESCALATE:
            assert severity is Severity.CRITICAL
        is_news = verdict is not Verdict.UNKNOWN and (not before.history or minutes > 0)
        if is_news:
            self.at = until
            self.seen.append(verdict is Verdict.WRONG)
        else:
            assert decision.action is Action.KEEP
            assert decision.standing == before
        self.follow(decision.action, is_muted=is_muted)

    def follow(self, action: Action, *, is_muted: bool) -> None:
        if action is Action.FIRE:
            assert self.open is None
            assert not is_muted
            assert self.seen[-1]
            assert sum(self.seen[-self.need.of :]) >= self.need.times
            self.open, self.said = self.standing.severity, ["opened"]
        elif action is Action.ESCALATE:
            assert self.open is Severity.WARNING
            assert not is_muted
            self.open = Severity.CRITICAL
            self.said.append("escalated")
        elif action is Action.CLEAR:
            assert self.open is not None
            assert not any(self.seen[-self.need.times :])
            self.open = None
            self.said.append("closed")

    @precondition(lambda self: self.open is not None)
    @rule()
    def a_person_resolves(self) -> None:
        self.standing = Standing(WatchState.HELD, self.standing.severity, self.standing.history)
        self.open = None
        self.said.append("closed")

    @rule()
    def it_is_over_for_good(self) -> None:
        """Or most of a run would be spent on one alert: as many right windows as it needs."""
        for _ in range(self.need.times):
            self.read(Verdict.RIGHT, Severity.WARNING, False, 1)
        assert self.open is None
        assert self.standing.state is WatchState.QUIET

    @invariant()
    def an_alert_is_open_exactly_while_it_fires(self) -> None:
        assert (self.standing.state is WatchState.FIRING) == (self.open is not None)
        if self.open is not None:
            assert self.standing.severity is self.open

    @invariant()
    def nothing_is_said_twice(self) -> None:
        assert len(self.said) == len(set(self.said))

    @invariant()
    def the_past_is_short_and_in_order(self) -> None:
        ends = [past.until for past in self.standing.history]
        assert len(ends) <= self.need.of
        assert ends == sorted(set(ends))


Watching.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True, database=None
)
TestWatching = Watching.TestCase
