from django import forms
from django.db.models import QuerySet

from apps.audit.models import Event

LARGEST_ID = 2**63 - 1


class EventFilter(forms.Form):
    """What page and API take to narrow the events."""

    model = forms.CharField(required=False, max_length=200)
    environment = forms.CharField(required=False, max_length=60)
    verb = forms.CharField(required=False, max_length=60)
    object_type = forms.CharField(required=False, max_length=40)
    object_id = forms.IntegerField(required=False, min_value=0, max_value=LARGEST_ID)
    since = forms.DateTimeField(required=False)
    until = forms.DateTimeField(required=False)

    def narrow(self, events: QuerySet[Event]) -> QuerySet[Event]:
        """It keeps what the form, which must be valid, asks for."""
        asked = self.cleaned_data
        for field, lookup in (
            ("model", "model_name"),
            ("environment", "environment"),
            ("object_type", "object_type"),
            ("object_id", "object_id"),
            ("since", "at__gte"),
            ("until", "at__lte"),
        ):
            if asked[field] not in (None, ""):
                events = events.filter(**{lookup: asked[field]})
        if asked["verb"].endswith("."):
            return events.filter(verb__startswith=asked["verb"])
        return events.filter(verb=asked["verb"]) if asked["verb"] else events
