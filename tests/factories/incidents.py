from factory.django import DjangoModelFactory

from apps.incidents.lifecycle import WatchState
from apps.incidents.models import Alert, Incident, IncidentNote, Watch
from tests.factories.accounts import UserFactory
from tests.factories.declared import LazyAttribute, Sequence, SubFactory
from tests.factories.registry import NOON
from tests.factories.serving import EndpointFactory


class IncidentFactory(DjangoModelFactory[Incident]):
    """An open incident without alerts."""

    class Meta:
        model = Incident

    endpoint = SubFactory(EndpointFactory)
    number = Sequence(lambda n: n + 1)
    title = "Errors 4.1 %"
    severity = "warning"
    opened_at = NOON


class WatchFactory(DjangoModelFactory[Watch]):
    """A monitor that was right in one window."""

    class Meta:
        model = Watch

    endpoint = SubFactory(EndpointFactory)
    rule = "errors"
    metric = "errors"
    state = WatchState.QUIET
    evaluated_at = NOON
    last_enough_at = NOON
    smallest = 0.02
    history = LazyAttribute(lambda row: [[NOON.isoformat(), row.state == "firing", False]])
    reading = LazyAttribute(
        lambda row: {
            "until": NOON.isoformat(),
            "verdict": "wrong" if row.state == "firing" else "right",
            "words": "Errors: 4.1 % of 1,000 requests in 5 min, limit 1 %",
            "value": 0.041,
            "smallest_words": "2 % errors",
        }
    )


class AlertFactory(DjangoModelFactory[Alert]):
    """One firing, still open."""

    class Meta:
        model = Alert

    incident = SubFactory(IncidentFactory)
    watch = LazyAttribute(
        lambda row: WatchFactory.create(
            endpoint=row.incident.endpoint,
            served=row.incident.served,
            state=WatchState.FIRING,
            severity=row.severity,
        )
    )
    opened_at = NOON
    severity = "warning"
    headline = "Errors 4.1 %"
    words = "Errors: 4.1 % of 1,000 requests in 5 min, limit 1 %"


class IncidentNoteFactory(DjangoModelFactory[IncidentNote]):
    class Meta:
        model = IncidentNote

    incident = SubFactory(IncidentFactory)
    author = SubFactory(UserFactory)
    at = NOON
    text = "The upstream table changed"
