"""Monitors and stories as pages and the API show them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from apps.audit import selectors as audit
from apps.incidents.lifecycle import WatchState
from apps.incidents.models import Incident, Round, Watch
from apps.incidents.selectors import readings
from apps.registry.monitors_policy import Rule
from apps.serving.models import Endpoint


@dataclass(frozen=True)
class Monitor:
    """A rule as it stands on one endpoint, with what it can see."""

    rule: Rule
    watch: Watch | None  # None: it was not read yet
    firing: tuple[Watch, ...]  # its columns or revisions that fire
    is_muted: bool
    broken: Round | None = None  # the endpoint's rounds that cannot be made: all of this is old

    @property
    def state(self) -> str:
        if self.firing:
            return "firing"
        if self.watch is None or self.watch.last_enough_at is None:
            return "waiting"
        return "quiet" if self.watch.state == WatchState.WAITING else self.watch.state

    @property
    def words(self) -> str:
        return str(self.watch.reading.get("words", "")) if self.watch else "Not read yet"

    @property
    def is_blind(self) -> bool:
        """Its last window had too little to tell anything."""
        return self.watch is None or self.watch.reading.get("verdict") == "unknown"

    @property
    def last_enough_at(self) -> datetime | None:
        return self.watch.last_enough_at if self.watch else None

    @property
    def smallest_words(self) -> str:
        return str(self.watch.reading.get("smallest_words", "")) if self.watch else ""

    @property
    def version(self) -> int | None:
        served = self.watch.served if self.watch else None
        return served.version.number if served else None


def monitors(endpoint: Endpoint, now: datetime) -> list[Monitor]:
    """Each monitor of an endpoint, one line for each revision that it tells apart."""
    rules = readings.monitors(endpoint).in_force
    serving = {one.pk for one in readings.serving_revisions(endpoint)}
    found = list(Watch.objects.filter(endpoint=endpoint).select_related("served__version"))
    # What was muted is the monitor, with all columns and revisions that come meanwhile.
    muted = {watch.rule for watch in found if not watch.subject and watch.is_muted(now)}
    muted |= {rule.name for rule in rules if rule.mute}
    by_rule: dict[str, list[Watch]] = {}
    for watch in found:
        if watch.served_id is None or watch.served_id in serving:
            by_rule.setdefault(watch.rule, []).append(watch)
    broken = broken_round(endpoint)
    return [
        monitor
        for rule in rules
        for monitor in _lines(rule, by_rule.get(rule.name, []), muted, broken)
    ]


def broken_round(endpoint: Endpoint) -> Round | None:
    """The endpoint's round, where the last one could not be made."""
    return Round.objects.filter(endpoint=endpoint).exclude(error="").first()


def _lines(
    rule: Rule, watches: list[Watch], muted: Collection[str], broken: Round | None
) -> list[Monitor]:
    whole = [watch for watch in watches if not watch.subject and watch.reading]
    last = max((one.evaluated_at for one in whole if one.evaluated_at), default=None)
    # That it could not be read, of no revision, is a line of its own as long as it is so.
    known = [one for one in whole if one.served_id is not None or one.evaluated_at == last]
    if not known:
        return [Monitor(rule, None, (), rule.name in muted, broken)]
    return [
        Monitor(
            rule,
            watch,
            tuple(
                one
                for one in watches
                if one.served_id == watch.served_id and one.state == WatchState.FIRING
            ),
            rule.name in muted,
            broken,
        )
        for watch in known
    ]


@dataclass(frozen=True)
class Line:
    """One thing that happened to an incident."""

    at: datetime
    label: str
    note: str
    state: str


VERBS: Mapping[str, tuple[str, str]] = {
    "incident.opened": ("Opened", "open"),
    "incident.escalated": ("Became critical", "open"),
    "incident.acknowledged": ("Acknowledged", "acknowledged"),
    "incident.assigned": ("Assigned", "current"),
    "incident.muted": ("Mails stopped", "paused"),
    "incident.unmuted": ("Mails come again", "current"),
    "incident.reopened": ("Taken up again", "open"),
    "incident.resolved": ("Resolved", "resolved"),
}


def story(incident: Incident) -> list[Line]:
    """What happened, oldest first: alerts that fired and ended, and what people did."""
    lines = [
        Line(event.at, f"{label} by {event.actor_name}", event.reason, state)
        for event in audit.of_object("incident", incident.pk)
        if event.verb in VERBS
        for label, state in [VERBS[event.verb]]
    ]
    for alert in incident.alerts.select_related("watch"):
        lines.append(Line(alert.opened_at, f"{alert.watch} fired", alert.words, "firing"))
        if alert.closed_at is not None:
            lines.append(Line(alert.closed_at, f"{alert.watch} ended", alert.ended, "done"))
    return sorted(lines, key=lambda line: line.at)
