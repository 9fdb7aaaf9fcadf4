"""Batches of labels that are tried together: one sender's, for one endpoint or for any."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import BooleanField, ExpressionWrapper, Q

from apps.accounts.models import User
from apps.accounts.selectors import may, teams_of
from apps.monitoring.models import Slice
from apps.quality.items import Label
from apps.quality.lifecycle import State
from apps.quality.models import Feedback
from apps.serving.models import Endpoint, Revision

BATCH = 50_000
TOO_FEW = "Too few labels to tell what they are"
MOST_ALONG = 1_000  # of those that wait for more of their kind
LATE = timedelta(minutes=10)  # a copy's row may come so much later than its original's
Key = tuple[str, int]
Scope = tuple[int, int | None, bool]  # sender, endpoint, whether they were never tried


@dataclass(frozen=True)
class Sent:
    """A label that is tried now."""

    pk: int
    request_id: str
    row: int
    label: Label
    observed_at: datetime
    received_at: datetime
    state: State

    @property
    def key(self) -> Key:
        return self.request_id, self.row


@dataclass
class Tried:
    """What came of a batch, by the place of its labels."""

    joined: set[int] = field(default_factory=set)
    wrong: dict[int, str] = field(default_factory=dict)  # why
    untold: set[int] = field(default_factory=set)  # found, but too few to tell what they are


class Batch:
    def __init__(
        self, sent: Sequence[Sent], endpoints: Sequence[Endpoint], since: datetime | None
    ) -> None:
        """`since`: only files that came since are searched; None: all."""
        self.sent, self.endpoints, self.since = sent, endpoints, since
        self.places = {one.key: place for place, one in enumerate(sent)}
        self.revisions = {
            revision.pk: revision
            for revision in Revision.objects.filter(endpoint__in=endpoints).select_related(
                "version__model", "endpoint__model"
            )
        }
        self.slices: dict[int, list[Slice]] = {}
        # Of a slice without a look back nobody says which labels were joined without it.
        known = Slice.objects.filter(
            endpoint__in=endpoints, retired_at=None, lookback__isnull=False
        )
        for one in known.order_by("pk"):
            self.slices.setdefault(one.endpoint_id, []).append(one)

    def slices_of(self, revision: Revision) -> list[Slice]:
        return self.slices.get(revision.endpoint_id, [])


def due(now: datetime) -> list[Scope]:
    """Whose labels are due, for which endpoint, and whether they were tried before."""
    rows = Feedback.objects.filter(next_try_at__lte=now).annotate(
        is_first=ExpressionWrapper(Q(tried_at__isnull=True), BooleanField())
    )
    scopes = rows.values_list("sender", "endpoint", "is_first").distinct()
    return sorted(scopes, key=lambda scope: (scope[0], scope[1] or 0, scope[2]))


def take(scope: Scope, now: datetime) -> Batch | None:
    """It gives those of a scope that wait longest; None: there are none.

    Labels that wait for more of their kind come along, due or not: of those that were sent one by
    one, which are due at different times, there would never be enough.
    """
    sender, endpoint, is_first = scope
    rows = Feedback.objects.filter(sender=sender, endpoint=endpoint)
    rows = rows.filter(tried_at__isnull=is_first).order_by("next_try_at", "pk")
    found = list(rows.filter(next_try_at__lte=now)[:BATCH])
    if not found:
        return None
    if is_first:
        few = rows.filter(next_try_at__gt=now, state=State.WAITING, reason=TOO_FEW)
        found += few[:MOST_ALONG]
    sent = [
        Sent(
            one.pk, one.request_id, one.row, one.label, one.observed_at, one.received_at,
            State(one.state),
        )
        for one in found
    ]  # fmt: skip
    endpoints = _endpoints(User.objects.get(pk=sender), endpoint)
    tried_at = [one.tried_at for one in found if one.tried_at]
    return Batch(sent, endpoints, None if is_first else min(tried_at) - LATE)


def _endpoints(sender: User, endpoint: int | None) -> list[Endpoint]:
    """Where the sender's labels may count now; not where they might when they sent them."""
    rows = Endpoint.objects.select_related("model", "environment")
    if endpoint is None:
        return list(rows.filter(model__team__in=teams_of(sender, "feedback.send")))
    return [found for found in rows.filter(pk=endpoint) if may(sender, "feedback.send", found)]
