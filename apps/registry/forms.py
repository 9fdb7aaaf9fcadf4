from django import forms

from apps.registry.lifecycle import DatasetRole


class PolicyForm(forms.Form):
    text = forms.CharField(
        label="Policy (YAML)",
        strip=False,
        max_length=100_000,
        widget=forms.Textarea(
            attrs={"rows": 32, "spellcheck": "false", "class": "mono", "autocapitalize": "none"}
        ),
    )


class DatasetForm(forms.Form):
    name = forms.CharField(
        max_length=200, help_text="The policy names a holdout by this", initial="holdout"
    )
    role = forms.ChoiceField(choices=[(r.value, r.value) for r in DatasetRole], initial="holdout")
    label_column = forms.CharField(max_length=200, required=False)
    time_column = forms.CharField(max_length=200, required=False)
    file = forms.FileField(label="Parquet or CSV file")
