"""What people choose on the page of an endpoint's quality; it stands in the page's address."""

from collections.abc import Iterable

from django import forms
from django.http import QueryDict

from apps.monitoring.models import Slice
from apps.quality.metrics import LABELS
from apps.serving.models import Revision

WORDS = {"1d": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days", "1y": "1 year"}
USUAL_WINDOW = "7d"


class ChoiceForm(forms.Form):
    window = forms.ChoiceField(choices=list(WORDS.items()), required=False)
    revision = forms.ChoiceField(required=False)
    slice = forms.ChoiceField(required=False)
    metric = forms.ChoiceField(choices=[("", "usual"), *LABELS.items()], required=False)
    column = forms.ChoiceField(required=False, label="Apart by")

    def __init__(
        self,
        given: QueryDict,
        *,
        revisions: Iterable[Revision],
        slices: Iterable[Slice],
        columns: Iterable[str],
    ) -> None:
        # Else the first window stands chosen while the usual one is shown.
        super().__init__({"window": USUAL_WINDOW} | given.dict())
        numbers = ((str(one.number), f"{one.number} (v{one.version.number})") for one in revisions)
        self._choices("revision", "all", numbers)
        self._choices("slice", "everything", ((str(one.pk), one.name) for one in slices))
        self._choices("column", "nothing", ((name, name.removeprefix("in.")) for name in columns))

    def _choices(self, name: str, empty: str, choices: Iterable[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", empty), *choices]

    def chosen(self) -> dict[str, str]:
        """What was chosen; a choice that is none, from an old link, is as if it was not made."""
        self.is_valid()
        return {"window": USUAL_WINDOW} | {
            name: value for name, value in self.cleaned_data.items() if value
        }
