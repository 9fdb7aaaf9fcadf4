"""Turns the fields of a page into a question, and a question into the address of a page."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.http import QueryDict

from apps.explorer.lifecycle import MOST_ROWS
from apps.explorer.question import (
    ALWAYS,
    BOOL,
    NUMBER,
    OPS,
    ORDERS,
    SHADOWS,
    STATUS,
    WITHOUT_VALUE,
    Condition,
    Question,
    SearchRefused,
    since_or_window,
)
from apps.serving.models import Endpoint

DEFAULT_ROWS = 1_000
MOST_TEXT = 131_072  # characters of values with commas between them
SECOND = timedelta(seconds=1)
MOMENT = "%Y-%m-%dT%H:%M:%S"
MOMENTS = [MOMENT, "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"]
OP_WORDS = {
    "eq": "is", "ne": "is not", "lt": "below", "le": "at most", "gt": "above", "ge": "at least",
    "between": "between", "in": "one of", "is_null": "is missing", "not_null": "is there",
}  # fmt: skip
# By the alphabet 9 stands behind 100: what looks like a number is compared as one.
ORDERING = ("lt", "le", "gt", "ge", "between")
SHADOW_WORDS = {"no": "callers only", "yes": "copies only", "both": "callers and copies"}
ORDER_WORDS = {"newest": "the newest", "sample": "a sample of all"}


def _moment(label: str) -> forms.DateTimeField:
    return forms.DateTimeField(
        label=label,
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"}, format=MOMENT),
        input_formats=MOMENTS,
    )


class SearchForm(forms.Form):
    """What is looked for; the conditions on columns come as repeated `column`, `op`, `value`."""

    since = _moment("From (UTC)")
    until = _moment("To (UTC)")
    revision = forms.TypedMultipleChoiceField(
        label="Revisions",
        required=False,
        coerce=int,
        help_text="None chosen: all",
        widget=forms.SelectMultiple(attrs={"size": 3}),
    )
    shadow = forms.ChoiceField(label="Whose", required=False, choices=SHADOW_WORDS)
    status = forms.RegexField(
        rf"\A(?:{STATUS.pattern})\Z",
        required=False,
        max_length=3,
        widget=forms.TextInput(attrs={"placeholder": "5xx"}),
    )
    latency_from_ms = forms.FloatField(label="Took at least (ms)", required=False, min_value=0)
    latency_to_ms = forms.FloatField(label="Took at most (ms)", required=False, min_value=0)
    request_id = forms.CharField(label="Request id", required=False, max_length=500, strip=False)
    caller = forms.CharField(required=False, max_length=500, strip=False)
    error = forms.CharField(label="Error contains", required=False, max_length=500)
    order = forms.ChoiceField(label="Show", required=False, choices=ORDER_WORDS)
    limit = forms.IntegerField(
        label="Rows",
        required=False,
        min_value=1,
        max_value=MOST_ROWS,
        help_text=f"{DEFAULT_ROWS:,} if you do not say; at most {MOST_ROWS:,}",
    )

    def __init__(self, endpoint: Endpoint, data: QueryDict | None = None, **named: Any) -> None:
        super().__init__(data, **named)
        revisions = endpoint.revisions.select_related("version")
        field = self.fields["revision"]
        assert isinstance(field, forms.TypedMultipleChoiceField)
        field.choices = [(r.number, f"revision {r.number}, v{r.version.number}") for r in revisions]

    def question(self, known: Mapping[str, str], now: datetime) -> Question:
        """It gives what the form, which must be valid, asks. Raises: SearchRefused."""
        asked = self.cleaned_data
        until = asked["until"] or now
        assert isinstance(self.data, QueryDict)
        return Question(
            since=since_or_window(asked["since"], until),
            until=until,
            revisions=tuple(sorted(asked["revision"])),
            shadow=asked["shadow"] or SHADOWS[0],
            status=asked["status"],
            latency_from_ms=asked["latency_from_ms"],
            latency_to_ms=asked["latency_to_ms"],
            request_id=asked["request_id"],
            caller=asked["caller"],
            error=asked["error"],
            conditions=tuple(
                condition(column, op, value, {**known, **ALWAYS})
                for column, op, value in written(self.data)
            ),
            order=asked["order"] or ORDERS[0],
            limit=asked["limit"] or DEFAULT_ROWS,
        )

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """The time that is asked for, as far as the fields say it."""
        asked = getattr(self, "cleaned_data", {})
        until = asked.get("until") or now
        return since_or_window(asked.get("since"), until), until


def written(data: QueryDict) -> list[tuple[str, str, str]]:
    """It gives the conditions as they were typed; a line without a column is none."""
    columns, ops, values = (data.getlist(name) for name in ("column", "op", "value"))
    values += [""] * (len(columns) - len(values))
    ops += ["eq"] * (len(columns) - len(ops))
    return [
        (column, op, value)
        for column, op, value in zip(columns, ops, values, strict=False)
        if column
    ]


def condition(column: str, op: str, text: str, known: Mapping[str, str]) -> Condition:
    """It reads a condition's value as the column's kind. Raises: SearchRefused."""
    kind = known.get(column, "")
    if op in WITHOUT_VALUE or op not in OPS or not kind:
        return Condition(column, op)
    if op in ("in", "between"):
        return Condition(column, op, [_value(part, kind, column, op) for part in _parts(text)])
    return Condition(column, op, _value(text, kind, column, op))


def _parts(text: str) -> list[str]:
    """It reads values with commas between them; one that holds commas stands in quotes."""
    try:
        # The reader's own limit is the process's: whoever reads files of CSV may have raised it.
        if len(text) > MOST_TEXT:
            raise ValueError("It is too long")
        [parts] = csv.reader([text.strip() or '""'], skipinitialspace=True)
    except (csv.Error, ValueError):  # line ends outside of quotes, or a million characters
        raise SearchRefused(
            "Values stand on one line with commas between them", "value_wrong"
        ) from None
    return parts if '"' in text else [part.strip() for part in parts]


def _value(text: str, kind: str, column: str, op: str) -> Any:
    if kind == BOOL:
        if text.lower() not in ("true", "false"):
            raise SearchRefused(f"{column} is true or false, not {text[:100]!r}", "value_wrong")
        return text.lower() == "true"
    if kind != NUMBER and op not in ORDERING:
        return text
    try:
        return float(text)
    except ValueError:
        if kind != NUMBER:
            return text
        raise SearchRefused(f"{column} is a number, not {text[:100]!r}", "value_wrong") from None


def address(question: Mapping[str, Any]) -> str:
    """It writes a kept question as the query of a page, so that the page can be shared."""
    query = QueryDict(mutable=True)
    since, until = (datetime.fromisoformat(question[name]) for name in ("since", "until"))
    query["since"] = since.strftime(MOMENT)
    query["until"] = _second_after(until).strftime(MOMENT)
    query.setlist("revision", [str(number) for number in question["revisions"]])
    for name in (
        "shadow", "status", "latency_from_ms", "latency_to_ms", "request_id", "caller", "error",
        "order", "limit",
    ):  # fmt: skip
        if question[name] not in ("", None):
            query[name] = str(question[name])
    for one in question["conditions"]:
        query.appendlist("column", one["column"])
        query.appendlist("op", one["op"])
        query.appendlist("value", _text(one["value"]))
    return query.urlencode()


def _second_after(until: datetime) -> datetime:
    """Fields hold whole seconds: what was asked again must not miss the last part of one."""
    whole = until.replace(microsecond=0)
    try:
        return whole if whole == until else whole + SECOND
    except OverflowError:
        return whole


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_listed(_text(one)) for one in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _listed(text: str) -> str:
    """It writes one of several values, in quotes where `_parts` would read it otherwise."""
    if text and text == text.strip() and not {",", '"', "\n", "\r"} & set(text):
        return text
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="").writerow([text])
    return written.getvalue()


class ReplayForm(forms.Form):
    """Which revision is asked again, and what: a search's result or one request."""

    revision = forms.IntegerField(min_value=1, max_value=2**31 - 1)
    search = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    request_id = forms.CharField(required=False, max_length=500, strip=False)

    def clean(self) -> dict[str, Any]:
        given: Mapping[str, Any] = self.cleaned_data
        if bool(given.get("search")) == bool(given.get("request_id")):
            raise forms.ValidationError("Say which search's result, or which request")
        return dict(given)


def choices(words: Mapping[str, str], chosen: str) -> Sequence[tuple[str, str, bool]]:
    return [(value, text, value == chosen) for value, text in words.items()]
