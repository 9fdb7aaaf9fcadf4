"""Turns the fields of a page into values."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django import forms

from apps.serving.lifecycle import WEIGHT_TOTAL
from apps.serving.models import Revision


class ShadowForm(forms.Form):
    """Which version gets copies of which share of all requests, and why."""

    revision = forms.TypedChoiceField(label="Version", coerce=int)
    percent = forms.DecimalField(
        label="Share of requests (%)",
        min_value=Decimal("0.1"),
        max_value=100,
        decimal_places=1,
        initial=10,
    )
    reason = forms.CharField(
        label="Why", max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def __init__(self, among: Sequence[Revision], data: Any = None) -> None:
        super().__init__(data, auto_id="shadow_%s")
        field = self.fields["revision"]
        assert isinstance(field, forms.TypedChoiceField)
        field.choices = [
            (revision.number, f"v{revision.version.number} (revision {revision.number})")
            for revision in among
        ]

    @property
    def has_choice(self) -> bool:
        field = self.fields["revision"]
        assert isinstance(field, forms.TypedChoiceField)
        return bool(field.choices)

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = dict(self.cleaned_data)
        if "percent" in given:
            given["share"] = int(given["percent"] * WEIGHT_TOTAL / 100)
        return given
