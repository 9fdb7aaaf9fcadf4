"""Takes readings in: what fires, joins or ends, with all that follows, in one transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max

from apps.audit.services import record
from apps.baselines.meaning import INPUT
from apps.baselines.texts import named
from apps.core import live
from apps.incidents import judging, mails
from apps.incidents.decide import Cause, Named, belongs, decide, title
from apps.incidents.lifecycle import Action, Need, Reading, Severity, State, Verdict, WatchState
from apps.incidents.models import Alert, Incident, Round, Watch
from apps.incidents.selectors import incidents as selectors
from apps.incidents.selectors.readings import Found
from apps.registry.monitors_policy import Rule
from apps.serving.models import Endpoint, Revision

MEMORY = 4  # a window counts for so many times the span that all windows of a rule fill
Key = tuple[str, int | None, str]
FIELDS = (
    "metric", "state", "severity", "history", "reading", "smallest", "last_enough_at",
    "evaluated_at",
)  # fmt: skip


@dataclass
class Change:
    """What happened to an endpoint's alerts in one round."""

    fired: list[tuple[Watch, Found]] = field(default_factory=list)
    worse: list[tuple[Watch, Found]] = field(default_factory=list)
    ended: list[tuple[Watch, str]] = field(default_factory=list)  # with why

    @property
    def is_nothing(self) -> bool:
        return not (self.fired or self.worse or self.ended)


@transaction.atomic
def settle(
    *,
    endpoint: Endpoint,
    found: Iterable[Found],
    rules: Sequence[Rule],
    revisions: Sequence[Revision],
    now: datetime,
) -> list[Incident]:
    """It takes an endpoint's readings in and gives the incidents that changed.

    `rules` and `revisions`: those that are watched now; what fires for any other one ends, and for
    a column that a rule that could be read looks at no longer.
    """
    # Two rounds of one endpoint, should a lease run out, must not open two incidents of one cause,
    # nor may what a person decides meanwhile be written over: verbs hold the same row.
    Round.objects.select_for_update().filter(endpoint=endpoint).first()
    kept = {_key(watch): watch for watch in Watch.objects.filter(endpoint=endpoint)}
    touched: dict[Key, Watch] = {}
    change, read = Change(), list(found)
    for one in read:
        key = _key_of(one)
        watch = kept.get(key)
        if watch is None and one.subject and one.reading.verdict is not Verdict.WRONG:
            continue  # a column that was never wrong is told by its monitor's own line
        if watch is None:
            watch = Watch(
                endpoint=endpoint,
                rule=one.rule.name,
                served=one.served,
                subject=key[2],
                muted_until=_muted_until(kept.values(), key),
            )
            kept[key] = watch
        _take(watch, one, change, now)
        touched[key] = watch
    _end_unwatched(kept.values(), Seen.of(rules, revisions, read), change, touched)
    _save(touched.values())
    changed = [] if change.is_nothing else _follow(endpoint, change, now)
    if touched:
        live.publish(f"endpoint:{endpoint.pk}")
    return changed


def _key(watch: Watch) -> Key:
    return watch.rule, watch.served_id, watch.subject


def _key_of(one: Found) -> Key:
    """A column's name may be longer than a row holds."""
    return one.rule.name, one.served.pk if one.served else None, named(one.subject)


def _muted_until(known: Iterable[Watch], key: Key) -> datetime | None:
    """Until when the monitor is muted, or this column of it, for any of its revisions.

    Else a column that was never wrong before, and a revision that is new, would fire.
    """
    rule, _, subject = key
    mutes = [
        watch.muted_until
        for watch in known
        if watch.rule == rule and watch.subject in ("", subject) and watch.muted_until is not None
    ]
    return max(mutes, default=None)


def _take(watch: Watch, one: Found, change: Change, now: datetime) -> None:
    """It holds the reading in the watch, and what it decides in the change."""
    reading, rule = one.reading, one.rule
    watch.metric, watch.evaluated_at = rule.metric, now
    known = watch.reading.get("smallest_words", "")
    watch.reading = judging.facts(reading)
    if reading.verdict is Verdict.UNKNOWN:
        watch.reading["smallest_words"] = known  # of the last window that could see anything
    else:
        watch.last_enough_at, watch.smallest = reading.until, reading.smallest
    if not one.fires:
        if reading.verdict is not Verdict.UNKNOWN:
            watch.state = WatchState.QUIET
        return
    decision = decide(
        watch.standing, reading, need_of(rule), is_muted=rule.mute or watch.is_muted(now)
    )
    watch.take(decision.standing)
    if decision.action is Action.FIRE:
        change.fired.append((watch, one))
    elif decision.action is Action.ESCALATE:
        change.worse.append((watch, one))
    elif decision.action is Action.CLEAR:
        change.ended.append((watch, reading.words))


def need_of(rule: Rule) -> Need:
    times, of = rule.for_.times, rule.for_.of
    return Need(times, of, timedelta(seconds=MEMORY * of * rule.step_seconds))


@dataclass(frozen=True)
class Seen:
    """What a round looked at."""

    rules: Mapping[str, Rule]
    serving: Collection[int]
    found: Mapping[str, Sequence[Found]]  # by the name of the rule; only of those that were due
    keys: Collection[Key]

    @classmethod
    def of(
        cls, rules: Sequence[Rule], revisions: Sequence[Revision], read: Sequence[Found]
    ) -> "Seen":
        found: dict[str, list[Found]] = {}
        for one in read:
            found.setdefault(one.rule.name, []).append(one)
        return cls(
            {rule.name: rule for rule in rules},
            {one.pk for one in revisions},
            found,
            {_key_of(one) for one in read},
        )

    def why_not(self, watch: Watch) -> str:
        """It says why nobody watches what this watch told of; "" where somebody does, or where
        nothing could be told."""
        rule = self.rules.get(watch.rule)
        if rule is None:
            return "The policy no longer has this monitor"
        if watch.served_id is not None and watch.served_id not in self.serving:
            return "This revision no longer gets traffic"
        wanted = {named(text) for name in rule.columns for text in (name, name.removeprefix(INPUT))}
        if watch.subject and wanted and watch.subject not in wanted:
            return "The policy no longer has this monitor look at this column"
        found = self.found.get(watch.rule, ())
        mine = [one for one in found if not one.subject and _key_of(one)[1] == watch.served_id]
        if _key(watch) in self.keys or not any(map(_is_judged, mine or found)):
            return ""
        if watch.subject:
            return (
                "This column is no longer looked at: the policy hides it, or what it would be"
                " compared with does not have it"
            )
        return "This monitor no longer looks at this revision"


def _is_judged(one: Found) -> bool:
    """It could be read; that there is no column at all to look at is a verdict as well."""
    is_known = one.reading.verdict is not Verdict.UNKNOWN
    return is_known or one.reading.evidence.get("columns") == 0


def _end_unwatched(
    watches: Iterable[Watch], seen: Seen, change: Change, touched: dict[Key, Watch]
) -> None:
    """What fires for something that nobody watches any more ends."""
    for watch in watches:
        if watch.state not in (WatchState.FIRING, WatchState.HELD):
            continue
        why = seen.why_not(watch)
        if not why:
            continue
        if watch.state == WatchState.FIRING:
            change.ended.append((watch, why))
        watch.state, watch.severity, watch.history = WatchState.QUIET, "", []
        touched[_key(watch)] = watch


def _save(watches: Iterable[Watch]) -> None:
    rows = list(watches)
    Watch.objects.bulk_create([row for row in rows if row.pk is None])
    Watch.objects.bulk_update([row for row in rows if row.pk is not None], FIELDS, batch_size=500)


def _follow(endpoint: Endpoint, change: Change, now: datetime) -> list[Incident]:
    """It opens, joins and closes alerts, and settles the incidents that they belong to."""
    why = {watch.pk: words for watch, words in change.ended}
    closed = list(Alert.objects.filter(watch__in=why, closed_at=None))
    for alert in closed:
        alert.closed_at, alert.ended = now, why[alert.watch_id]
    Alert.objects.bulk_update(closed, ["closed_at", "ended"])
    touched = {alert.incident_id for alert in closed}
    for watch, one in change.worse:
        found = Alert.objects.filter(watch=watch, closed_at=None)
        touched |= set(found.values_list("incident_id", flat=True))
        found.update(severity=watch.severity, headline=one.reading.headline[:200],
                     words=one.reading.words, evidence=_evidence(one))  # fmt: skip
    opened = _open(endpoint, change.fired, now)
    rows = selectors.with_relations(Incident.objects.filter(pk__in=touched | opened.keys()))
    changed = list(rows.order_by("pk"))
    for incident in changed:
        _settle(incident, is_new=opened.get(incident.pk, False), now=now)
    live.publish("home:all")
    return changed


def _evidence(one: Found) -> dict[str, Any]:
    """The figures, and of which rows they are: the rule may be another by the time that somebody
    looks."""
    rule = one.rule
    return {
        **one.reading.evidence,
        "until": one.reading.until.isoformat(),
        "window_seconds": rule.window,
        "enough": rule.enough,
        "against": rule.against,
        "slice": rule.slice,
    }


def _open(endpoint: Endpoint, fired: list[tuple[Watch, Found]], now: datetime) -> dict[int, bool]:
    """It writes the alerts; by incident, whether it is a new one."""
    opened: dict[int, bool] = {}
    causes = selectors.open_causes(endpoint.pk)
    for watch, one in fired:
        reading = one.reading
        columns = frozenset({watch.subject} - {""})
        pk = belongs(Cause(watch.served_id, (now,), columns), causes)
        if pk is None:
            incident = _new(endpoint, watch, reading, now)
            pk, opened[incident.pk] = incident.pk, True
            causes.append((pk, Cause(watch.served_id, (now,), columns)))
        opened.setdefault(pk, False)
        Alert.objects.create(
            watch=watch,
            incident_id=pk,
            opened_at=now,
            severity=watch.severity,
            headline=reading.headline[:200],
            words=reading.words,
            rank=reading.rank,
            evidence=_evidence(one),
        )
    return opened


def _new(endpoint: Endpoint, watch: Watch, reading: Reading, now: datetime) -> Incident:
    last = endpoint.incidents.aggregate(last=Max("number"))["last"] or 0
    return Incident.objects.create(
        endpoint=endpoint,
        number=last + 1,
        served=watch.served,
        title=reading.headline[:250],
        severity=watch.severity,
        opened_at=now,
    )


def _settle(incident: Incident, *, is_new: bool, now: datetime) -> None:
    """It gives the incident its title and severity, or its end, and tells people."""
    alerts = selectors.open_alerts(incident)
    was = Severity(incident.severity)
    if not alerts:
        if not incident.is_final:
            _resolve(incident, now)
        return
    if not is_new and incident.is_final:
        return
    # It does not become milder while it is open: a mail said how bad it was.
    is_critical = Severity.CRITICAL in (was, *(alert.severity for alert in alerts))
    severity = Severity.CRITICAL if is_critical else Severity.WARNING
    incident.move(title=titled(alerts), severity=severity)
    if is_new:
        _record("opened", incident, now)
        mails.opened(incident, alerts, now)
    elif severity is not was:
        _record("escalated", incident, now)
        mails.escalated(incident, alerts, now)
    live.publish(f"incident:{incident.pk}")


def titled(alerts: Sequence[Alert]) -> str:
    return title(
        Named(
            alert.watch.metric,
            alert.headline,
            alert.watch.subject,
            f"v{alert.watch.served.version.number}" if alert.watch.served else "",
            alert.rank,
            alert.severity == Severity.CRITICAL,
        )
        for alert in alerts
    )[:250]


def _resolve(incident: Incident, now: datetime) -> None:
    incident.move(state=State.RESOLVED, resolved_at=now, resolved_by=None)
    _record("resolved", incident, now)
    mails.resolved(incident, None, now)
    live.publish(f"incident:{incident.pk}")


def _record(verb: str, incident: Incident, now: datetime) -> None:
    record(
        f"incident.{verb}",
        incident,
        actor=None,
        now=now,
        model_name=incident.endpoint.model.name,
        environment=incident.endpoint.environment.name,
        reason=incident.title,
        evidence={"number": incident.number, "severity": incident.severity},
    )
