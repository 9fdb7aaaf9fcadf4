from django import forms


class MomentForm(forms.Form):
    """When somebody wants to know what served. Times are UTC."""

    at = forms.DateTimeField(
        label="At (UTC)",
        widget=forms.DateTimeInput(
            attrs={"type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S"
        ),
        input_formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S",
                       "%Y-%m-%d %H:%M"],
    )  # fmt: skip
