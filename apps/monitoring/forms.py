"""What people choose on the page of an endpoint, and the slices that they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils.datastructures import MultiValueDict

from apps.monitoring.models import Slice
from apps.monitoring.selectors import versus
from apps.monitoring.selectors.requests import Answered
from apps.monitoring.spans import WINDOWS, WORDS
from apps.serving.models import Revision

BASELINE, PREVIOUS = "baseline", "previous"
CALLERS, COPIES = "callers", "copies"
USUAL_WINDOW = "24h"
ROWS = {CALLERS: "Of callers", COPIES: "Copies"}
LIVE = ("1h", "6h", "24h")
OPS = {
    "eq": "is",
    "ne": "is not",
    "in": "is one of",
    "lt": "is below",
    "le": "is at most",
    "gt": "is above",
    "ge": "is at least",
    "between": "lies between",
    "is_null": "is missing",
    "not_null": "is there",
}
WITHOUT_VALUE = ("is_null", "not_null")
OF_LISTS = ("in", "between")


@dataclass(frozen=True)
class Chosen:
    """What the page shows; it stands in the page's address and so can be sent to somebody."""

    window: str
    until: datetime | None  # None: now, and the page stays at the right edge
    revision: Revision | None
    other: Revision | None  # beside `revision` in the charts
    against: str
    slice: Slice | None
    column: str
    copies: bool  # what it answered to copies of requests, not what it answered callers

    @property
    def length(self) -> timedelta:
        return WINDOWS[self.window]

    @property
    def words(self) -> str:
        return WORDS[self.window]

    @property
    def beside(self) -> Revision | None:
        """Whose rows the columns are compared with; nobody's are with their own."""
        same = self.revision and self.other and self.revision.pk == self.other.pk
        return None if self.revision is None or same else self.other

    @property
    def reference(self) -> str:
        """What the columns are compared with, in words."""
        if self.beside is not None:
            return versus.name_of(self.beside)
        return "the reference" if self.against == BASELINE else "the window before"

    @property
    def is_live(self) -> bool:
        return self.until is None and self.window in LIVE


class ChoiceForm(forms.Form):
    window = forms.ChoiceField(label="Window", choices=list(WORDS.items()), required=False)
    revision = forms.ChoiceField(label="Revision", required=False)
    compare = forms.ChoiceField(label="Compare with", required=False)
    rows = forms.ChoiceField(label="Requests", choices=list(ROWS.items()), required=False)
    slice = forms.ChoiceField(label="Slice", required=False)
    until = forms.DateTimeField(required=False, widget=forms.HiddenInput())
    column = forms.CharField(required=False, max_length=300, widget=forms.HiddenInput())

    def __init__(
        self,
        data: MultiValueDict[str, Any],
        *,
        revisions: Sequence[Revision],
        stable: int | None,
        slices: Sequence[Slice],
        answered: Answered,
    ) -> None:
        self.revisions = {str(revision.number): revision for revision in revisions}
        self.slices = {str(part.pk): part for part in slices}
        self.stable = next((one for one in revisions if one.pk == stable), None) or next(
            iter(revisions), None
        )
        shown = self.revisions.get(data.get("revision", ""), self.stable)
        # What is only tried out has nothing else to show.
        is_tried = shown is not None and answered.only_copies(shown)
        # What is not in the address has its usual value, which the form then shows.
        usual = {
            "window": USUAL_WINDOW,
            "compare": BASELINE,
            "revision": "",
            "slice": "",
            "rows": COPIES if is_tried else CALLERS,
        }
        super().__init__({**usual, **{name: value for name, value in data.items() if value}})
        named = [
            (number, f"v{one.version.number}, revision {number}")
            for number, one in self.revisions.items()
        ]
        serving = f"The stable one (v{self.stable.version.number})" if self.stable else "None"
        self._choose("revision", [("", serving), *named])
        self._choose(
            "compare",
            [(BASELINE, "The reference"), (PREVIOUS, "The window before"), *named],
        )
        self._choose("slice", [("", "All rows"), *((pk, s.name) for pk, s in self.slices.items())])

    def chosen(self) -> Chosen:
        """It gives what was chosen; what the address says wrongly is as if it were not there."""
        self.full_clean()
        given = self.cleaned_data
        compare = given.get("compare") or BASELINE
        return Chosen(
            window=given.get("window") or USUAL_WINDOW,
            until=given.get("until"),
            revision=self.revisions.get(given.get("revision", ""), self.stable),
            other=self.revisions.get(compare),
            against=PREVIOUS if compare == PREVIOUS else BASELINE,
            slice=self.slices.get(given.get("slice", "")),
            column=given.get("column", ""),
            copies=given.get("rows") == COPIES,
        )

    def _choose(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices


ORDERED = ("lt", "le", "gt", "ge", "between")
MORE = ("2", "3")  # further lines of a slice's condition


class SliceForm(forms.Form):
    name = forms.CharField(label="Name", max_length=100)
    column = forms.ChoiceField(label="Rows whose")
    op = forms.ChoiceField(label="Condition", choices=list(OPS.items()))
    value = forms.CharField(
        label="Value",
        max_length=2000,
        required=False,
        help_text="For “is one of” and “lies between” with commas: JFK, LGA",
    )

    def __init__(self, data: Any = None, *, columns: Sequence[str]) -> None:
        super().__init__(data)
        known = [(name, name.removeprefix("in.")) for name in columns]
        for line in ("", *MORE):
            if line:
                self.fields[f"column{line}"] = forms.ChoiceField(label="and whose", required=False)
                self.fields[f"op{line}"] = forms.ChoiceField(
                    label="Condition", choices=list(OPS.items()), required=False
                )
                self.fields[f"value{line}"] = forms.CharField(
                    label="Value", max_length=2000, required=False
                )
            field = self.fields[f"column{line}"]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [*([("", "nothing more")] if line else []), *known]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        for line in self._lines():
            compares = given.get(f"op{line}") not in WITHOUT_VALUE
            if compares and not given.get(f"value{line}") and not self.errors:
                self.add_error(f"value{line}", "Say what it is compared with.")
        return given

    @property
    def lines(self) -> list[list[forms.BoundField]]:
        """The fields of each line of the condition."""
        names = ("column", "op", "value")
        return [[self[f"{name}{line}"] for name in names] for line in ("", *MORE)]

    @property
    def condition(self) -> list[dict[str, Any]]:
        return [self._part(line) for line in self._lines()]

    def _lines(self) -> list[str]:
        return ["", *(line for line in MORE if self.cleaned_data.get(f"column{line}"))]

    def _part(self, line: str) -> dict[str, Any]:
        column, op, text = (
            self.cleaned_data[f"{name}{line}"] for name in ("column", "op", "value")
        )
        one = {"column": column, "op": op or "eq"}
        if op in WITHOUT_VALUE:
            return one
        if op in OF_LISTS:
            parts = [part.strip() for part in text.split(",")]
            return one | {"value": [_value(part, op) for part in parts if part]}
        return one | {"value": _value(text, op)}


def _value(text: str, op: str) -> float | int | str:
    """A number where numbers are ordered. Else the text: a code of 01001 is no number.

    What is compared as equal is read in the column's own type (`conditions`).
    """
    if op not in ORDERED:
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
