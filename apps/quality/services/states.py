"""What becomes of each label of a batch: joined, waiting, unknown, or of a wrong type."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import connection

from apps.baselines.meaning import Meaning
from apps.quality.items import Label
from apps.quality.lifecycle import State
from apps.quality.services.batches import LATE, TOO_FEW, Batch, Sent, Tried
from apps.serving import selectors as serving
from apps.serving.models import Endpoint

FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(hours=1)
KEEP_DAYS = 30.0  # labels of predictions that never came, where the log's policy names no time


def settle(batch: Batch, tried: Tried, now: datetime) -> None:
    """It writes what became of each label, unless it was corrected meanwhile."""
    # What was found must be found again when there are more of its kind.
    tried_at = [None if i in tried.untold else now for i in range(len(batch.sent))]
    states, reasons, again = [], [], []
    keep = _keep_for(batch.endpoints)
    for place, sent in enumerate(batch.sent):
        state, reason, at = _state(place, sent, tried, keep, now)
        states.append(state.value)
        reasons.append(reason)
        again.append(at)
    with connection.cursor() as cursor:
        cursor.execute(
            "update quality_feedback as sent set state = now.state, reason = now.reason,"
            "   tried_at = now.tried_at, next_try_at = now.next_try_at"
            " from unnest(%s::bigint[], %s::jsonb[], %s::timestamptz[], %s::text[],"
            "   %s::text[], %s::timestamptz[], %s::timestamptz[])"
            "   as now(id, label, observed_at, state, reason, tried_at, next_try_at)"
            " where sent.id = now.id and sent.label = now.label"
            "   and sent.observed_at = now.observed_at",
            [
                [sent.pk for sent in batch.sent],
                [json.dumps(sent.label) for sent in batch.sent],
                [sent.observed_at for sent in batch.sent],
                states,
                reasons,
                tried_at,
                again,
            ],
        )


def wrong(meaning: Meaning, label: Label) -> str:
    """Why a label is none of this model."""
    words = str(label)[:60]
    if meaning.task.has_classes:
        known = ", ".join(meaning.classes[:5]) + (", …" if len(meaning.classes) > 5 else "")
        return f"{words} is no class of the model; it knows {known}"
    return f"{words} is no number"


def _state(
    place: int, sent: Sent, tried: Tried, keep: timedelta, now: datetime
) -> tuple[State, str, datetime | None]:
    if place in tried.joined or sent.state == State.JOINED:
        # Once more, for copies of its request that come later.
        return State.JOINED, "", None if sent.state == State.JOINED else now + LATE
    if place in tried.wrong:
        return State.WRONG_TYPE, tried.wrong[place], None
    age = now - sent.received_at
    if age >= keep:
        why = TOO_FEW if place in tried.untold else "No such prediction was found"
        return State.UNKNOWN, why, None
    reason = TOO_FEW if place in tried.untold else ""
    return State.WAITING, reason, now + min(max(age / 2, FIRST_PAUSE), LONGEST_PAUSE)


def _keep_for(endpoints: Sequence[Endpoint]) -> timedelta:
    """How long a label may wait: as long as predictions are kept, if that is limited."""
    days = [serving.serving_part(endpoint).capture.keep_days for endpoint in endpoints[:100]]
    return timedelta(days=max((KEEP_DAYS if one is None else one for one in days), default=1.0))
