"""Takes labels in: a batch at once, in any order, and twice without harm."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from apps.accounts.models import User
from apps.accounts.selectors import may
from apps.quality import items
from apps.quality.items import Item, Label, Refusal
from apps.quality.lifecycle import Fate, State
from apps.serving.models import Endpoint

Key = tuple[str, int]  # request id, row
LOCK = 0x71_75_61_6C  # "qual"


@dataclass
class Receipt:
    """What became of the labels of a batch, counted; and the items that could not be read."""

    accepted: int = 0
    repeated: int = 0
    corrected: int = 0
    older: int = 0
    refused: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True)
class _Known:
    label: Label
    observed_at: datetime


def send(*, sender: User, batch: Sequence[Any], now: datetime) -> Receipt:
    """It keeps the labels of a batch until their predictions are found.

    A later observation takes the place of an earlier one, whichever comes first; of two of the
    same time the one that comes last does.
    """
    found, refused = items.read(batch, now)
    by_endpoint, strange = _sorted(sender, found)
    receipt = Receipt(refused=sorted([*refused, *strange], key=lambda refusal: refusal.index))
    with transaction.atomic():
        _one_at_a_time(sender)
        for endpoint, labels in by_endpoint.items():
            _take(sender, endpoint, labels, receipt, now)
    return receipt


def _sorted(
    sender: User, found: Iterable[Item]
) -> tuple[dict[int | None, list[Item]], list[Refusal]]:
    """It puts labels to the endpoint that they name, if the sender may send there."""
    named: dict[str, int | None] = {"": None}
    refused: dict[int, Refusal] = {}
    sorted_: dict[int | None, list[Item]] = defaultdict(list)
    why: dict[str, tuple[str, str]] = {}
    for item in found:
        if item.endpoint not in named and item.endpoint not in why:
            endpoint = _named(item.endpoint)
            if endpoint is None or not may(sender, "view", endpoint):
                why[item.endpoint] = "not_found", "There is no such endpoint, or you may not see it"
            elif not may(sender, "feedback.send", endpoint):
                why[item.endpoint] = "forbidden", "You may not send feedback to this endpoint"
            else:
                named[item.endpoint] = endpoint.pk
        if item.endpoint in why:
            refused[item.place] = Refusal(item.place, *why[item.endpoint])
        else:
            sorted_[named[item.endpoint]].append(item)
    return sorted_, list(refused.values())


def _named(words: str) -> Endpoint | None:
    environment, _, name = words.partition("/")
    rows = Endpoint.objects.select_related("model")
    return rows.filter(environment__name=environment, name=name).first()


def _one_at_a_time(sender: User) -> None:
    # Two of one sender's batches with the same rows in another order would wait for each other.
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s, %s)", [LOCK, sender.pk % 2**31])


def _take(
    sender: User, endpoint: int | None, labels: list[Item], receipt: Receipt, now: datetime
) -> None:
    known = _known(sender, endpoint, [item.request_id for item in labels])
    changed: set[Key] = set()
    for item in labels:
        key = item.request_id, item.row
        seen = known.get(key)
        observed_at = item.observed_at or now
        fate = _fate(seen, item.label, observed_at)
        setattr(receipt, str(fate), getattr(receipt, str(fate)) + 1)
        if fate in (Fate.ACCEPTED, Fate.CORRECTED):
            known[key] = _Known(item.label, observed_at)
            changed.add(key)
        elif fate == Fate.REPEATED and item.observed_at and seen:
            known[key] = _Known(seen.label, max(seen.observed_at, item.observed_at))
            if known[key] != seen and key not in changed:
                _seen_again(sender, endpoint, key, known[key].observed_at)
    _write(sender, endpoint, {key: known[key] for key in sorted(changed)}, now)


def _fate(seen: _Known | None, label: Label, observed_at: datetime) -> Fate:
    if seen is None:
        return Fate.ACCEPTED
    # 1 is 1.0, whichever of them the database gives back; but it is not true.
    if isinstance(seen.label, bool) == isinstance(label, bool) and seen.label == label:
        return Fate.REPEATED
    return Fate.CORRECTED if observed_at >= seen.observed_at else Fate.OLDER


def _of(endpoint: int | None) -> str:
    # "is not distinct from" would not use the index.
    return "endpoint_id is null" if endpoint is None else f"endpoint_id = {endpoint:d}"


def _known(sender: User, endpoint: int | None, ids: list[str]) -> dict[Key, _Known]:
    with connection.cursor() as cursor:
        cursor.execute(
            'select request_id, "row", label::text, observed_at from quality_feedback'
            f" where sender_id = %s and {_of(endpoint)} and request_id = any(%s)",
            [sender.pk, sorted(set(ids))],
        )
        return {
            (request_id, row): _Known(json.loads(label), at)
            for request_id, row, label, at in cursor.fetchall()
        }


def _seen_again(sender: User, endpoint: int | None, key: Key, at: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"update quality_feedback set observed_at = %s where sender_id = %s and {_of(endpoint)}"
            ' and request_id = %s and "row" = %s',
            [at, sender.pk, *key],
        )


def _write(sender: User, endpoint: int | None, labels: dict[Key, _Known], now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            'insert into quality_feedback (sender_id, endpoint_id, request_id, "row", label,'
            " observed_at, received_at, state, reason, next_try_at)"
            " select %s, %s, id, place, label, at, %s, %s, '', %s"
            " from unnest(%s::text[], %s::int[], %s::jsonb[], %s::timestamptz[])"
            "   as given(id, place, label, at)"
            ' on conflict (sender_id, endpoint_id, request_id, "row") do update set'
            "   label = excluded.label, observed_at = excluded.observed_at,"
            "   received_at = excluded.received_at, state = excluded.state, reason = '',"
            "   tried_at = null, next_try_at = excluded.next_try_at",
            [
                sender.pk,
                endpoint,
                now,
                State.WAITING.value,
                now,
                [request_id for request_id, _ in labels],
                [row for _, row in labels],
                [json.dumps(one.label) for one in labels.values()],
                [one.observed_at for one in labels.values()],
            ],
        )
