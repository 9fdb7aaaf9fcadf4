from django import forms

from apps.promotions.lifecycle import Answer


class AnswerForm(forms.Form):
    """One person's yes or no: the button that was pressed, with words."""

    answer = forms.ChoiceField(choices=[(a.value, a.value) for a in Answer])
    words = forms.CharField(required=False, max_length=2000)
    digest = forms.CharField(required=False, max_length=80)  # of what the page showed

    def clean(self) -> dict[str, object]:
        cleaned = super().clean() or {}
        if cleaned.get("answer") == Answer.REJECT and not str(cleaned.get("words", "")).strip():
            self.add_error("words", "Say why: whoever trained it has to know what to do")
        return cleaned


class RequestForm(forms.Form):
    environment = forms.SlugField(max_length=60)
    words = forms.CharField(required=False, max_length=2000)
