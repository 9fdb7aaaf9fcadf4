"""Reads every endpoint's monitors when they are due. Safe to run at any time."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.conf import settings

from apps.accounts.models import User
from apps.incidents import mails
from apps.incidents.models import Digest, Incident, Round, Watch
from apps.incidents.selectors import incidents as selectors
from apps.incidents.selectors import readings
from apps.incidents.selectors.readings import Look
from apps.incidents.services import alerts
from apps.registry.monitors_policy import Rule
from apps.serving.models import Endpoint

Clock = Callable[[], datetime]
log = logging.getLogger(__name__)
OFTEN, SELDOM = timedelta(seconds=30), timedelta(minutes=5)
IDLE = timedelta(days=1)  # without a request: there is nothing that could change quickly
SOON = timedelta(seconds=60)  # after a round that broke
DIGEST_HOUR = 8  # of the installation's TIME_ZONE


def sweep(*, clock: Clock) -> int:
    """It reads the endpoints that are due, one after the other; how many it read."""
    _begin_new()
    due = Round.objects.filter(due_at__lte=clock(), lease_until__lte=clock())
    read = 0
    for pk in due.order_by("due_at", "pk").values_list("pk", flat=True):
        read += run(pk, clock=clock)
    return read


def _begin_new() -> None:
    """Every endpoint that something ever ran on has its round."""
    new = Endpoint.objects.filter(revisions__isnull=False).exclude(
        pk__in=Round.objects.values("endpoint")
    )
    rows = [Round(endpoint=endpoint) for endpoint in new.distinct()]
    Round.objects.bulk_create(rows, ignore_conflicts=True)


def run(round_id: int, *, clock: Clock) -> bool:
    """It makes one endpoint's round: read, decide, record. False: it is somebody else's."""
    row = Round.objects.select_related("endpoint__model", "endpoint__environment").get(pk=round_id)
    if not row.claim(clock()):
        return False
    due_at, error = clock() + SOON, ""
    try:
        due_at = read(row.endpoint, clock())
    except Exception as broken:  # one that cannot be read must not hold up all the others
        log.exception("The monitors of %s could not be read; the next sweep tries", row.endpoint)
        error = f"{type(broken).__name__}: {broken}"
    row.finish(clock(), due_at=due_at, error=error)
    return True


def read(endpoint: Endpoint, now: datetime) -> datetime:
    """It reads what is due of one endpoint and takes it in; when to look again."""
    rules = readings.monitors(endpoint).in_force
    revisions = readings.serving_revisions(endpoint)
    look = Look(endpoint, now, revisions)
    before = _read_until(endpoint)
    is_idle = look.last_at is None or now - look.last_at > IDLE
    if is_idle and before and now - max(before.values()) < SELDOM:
        return now + OFTEN  # one question instead of all: its next request is not seen too late
    found = list(readings.of(look, rules, before))
    alerts.settle(endpoint=endpoint, found=found, rules=rules, revisions=revisions, now=now)
    return now + (OFTEN if is_idle else pause(rules))


def pause(rules: tuple[Rule, ...]) -> timedelta:
    """A fifth of the shortest window: a window that has ended does not wait long for its look."""
    if not rules:
        return SELDOM
    shortest = min(rule.step_seconds if rule.is_rolling else rule.window for rule in rules)
    return min(SELDOM, max(OFTEN, timedelta(seconds=shortest / 5)))


def _read_until(endpoint: Endpoint) -> dict[str, datetime]:
    """The end of the window that each monitor read last."""
    found: dict[str, datetime] = {}
    rows = Watch.objects.filter(endpoint=endpoint, subject="").exclude(reading={})
    for name, reading in rows.values_list("rule", "reading"):
        until = datetime.fromisoformat(reading["until"])
        found[name] = max(until, found.get(name, until))
    return found


def digest(*, now: datetime) -> int:
    """It mails each owner, once a day, what is open and what ended; how many mails were written."""
    local = now.astimezone(ZoneInfo(settings.TIME_ZONE))
    if local.hour < DIGEST_HOUR:
        return 0
    _, is_new = Digest.objects.get_or_create(day=local.date(), defaults={"at": now})
    if not is_new:
        return 0
    rows = list(selectors.of_a_day(now))
    told: dict[int, tuple[User, list[Incident]]] = {}
    for incident in rows:
        for user in selectors.owners(incident):
            told.setdefault(user.pk, (user, []))[1].append(incident)
    return sum(_digest(user, theirs, now) for user, theirs in told.values())


def _digest(user: User, theirs: list[Incident], now: datetime) -> int:
    closed = [one for one in theirs if one.is_final]
    return mails.digest(user, [one for one in theirs if not one.is_final], closed, now)
