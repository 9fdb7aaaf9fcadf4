"""Reads labels as somebody sent them; what cannot be read is told by its place. Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils.dateparse import parse_datetime

MOST_ITEMS = 10_000
MOST_LABELS = 100_000  # of all items together
LONGEST_ID = 500
LONGEST_LABEL = 200
MOST_ROWS = 2**31 - 1
AHEAD = timedelta(days=1)  # a sender's clock may be wrong; labels from the future are not
Label = str | float | int | bool


@dataclass(frozen=True)
class Item:
    """The label of one row."""

    place: int  # in the batch
    request_id: str
    row: int
    label: Label
    observed_at: datetime | None
    endpoint: str  # "environment/name"; "": on any


@dataclass(frozen=True)
class Refusal:
    index: int
    code: str
    message: str


class _Malformed(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def read(given: Sequence[Any], now: datetime) -> tuple[list[Item], list[Refusal]]:
    """It gives the labels of a batch, one a row, and what is wrong with the others."""
    items: list[Item] = []
    refused: list[Refusal] = []
    for place, one in enumerate(given):
        try:
            made = list(_item(place, one, now))
            if len(items) + len(made) > MOST_LABELS:
                raise _Malformed("too_many", f"A batch has at most {MOST_LABELS} labels")
        except _Malformed as wrong:
            refused.append(Refusal(place, wrong.code, str(wrong)))
        else:
            items += made
    return items, refused


def _item(place: int, one: Any, now: datetime) -> Iterator[Item]:
    if not isinstance(one, dict):
        raise _Malformed("invalid_item", "An item is an object with request_id and label")
    request_id = _text(one.get("request_id"), "request_id", LONGEST_ID)
    if not request_id:
        raise _Malformed("invalid_request_id", "An item needs the request_id of its prediction")
    if "label" not in one:
        raise _Malformed("invalid_label", "An item needs a label")
    labels = one["label"] if isinstance(one["label"], list) else [one["label"]]
    row = one.get("row", 0)
    if type(row) is not int or not 0 <= row <= MOST_ROWS - len(labels):
        raise _Malformed("invalid_row", "row is the place of the row in its request, from 0")
    observed_at = _moment(one.get("observed_at"), now)
    endpoint = _text(one.get("endpoint", ""), "endpoint", LONGEST_ID)
    for i, label in enumerate([_label(label) for label in labels]):
        yield Item(place, request_id, row + i, label, observed_at, endpoint)


def _label(label: Any) -> Label:
    if isinstance(label, bool):
        return label
    if isinstance(label, int | float):
        try:
            finite = math.isfinite(float(label))
        except OverflowError:
            finite = False
        if not finite:
            raise _Malformed("invalid_label", "A label that is a number must be finite")
        return label if abs(label) < 2**63 else float(label)
    if isinstance(label, str):
        return _text(label, "label", LONGEST_LABEL)
    raise _Malformed("invalid_label", "A label is text, a number or a bool, or a list of them")


def _text(given: Any, name: str, longest: int) -> str:
    code = f"invalid_{name}"
    if not isinstance(given, str):
        raise _Malformed(code, f"{name} must be text")
    if len(given) > longest:
        raise _Malformed(code, f"{name} has at most {longest} characters")
    # What the database cannot keep: NUL, and halves of characters.
    if "\0" in given or any("\ud800" <= letter <= "\udfff" for letter in given):
        raise _Malformed(code, f"{name} has characters that are no text")
    return given


def _moment(given: Any, now: datetime) -> datetime | None:
    if given is None:
        return None
    try:
        at = parse_datetime(given) if isinstance(given, str) else None
    except ValueError:
        at = None
    if at is None:
        raise _Malformed("invalid_observed_at", "observed_at is a time like 2030-01-07T12:00:00Z")
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    try:
        at = at.astimezone(UTC)
    except OverflowError:
        raise _Malformed("invalid_observed_at", "observed_at lies before time") from None
    if at > now + AHEAD:
        raise _Malformed("invalid_observed_at", "observed_at lies in the future")
    return at
