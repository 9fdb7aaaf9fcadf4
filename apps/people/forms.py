from django import forms

from apps.accounts.lifecycle import Role, Scope


class TokenForm(forms.Form):
    name = forms.CharField(
        max_length=100, help_text="What it is for, so that you can tell it apart"
    )
    scopes = forms.MultipleChoiceField(
        choices=[(s.value, s.value) for s in Scope],
        widget=forms.CheckboxSelectMultiple,
        initial=["read", "mlflow"],
    )
    days = forms.IntegerField(min_value=1, max_value=366, initial=90, label="Valid for (days)")


class MemberForm(forms.Form):
    username = forms.CharField(max_length=150, label="User name")
    role = forms.ChoiceField(choices=[(r.value, r.label) for r in Role])
    email = forms.EmailField(
        required=False,
        label="E-mail",
        help_text="Only for somebody who has no account yet: one is made",
    )
