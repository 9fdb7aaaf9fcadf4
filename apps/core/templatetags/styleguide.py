"""Sample values for the style guide, which shows every component once."""

import json
from datetime import timedelta
from types import SimpleNamespace

from django import forms, template
from django.core.paginator import Paginator
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from apps.core.templatetags.states import STATES

register = template.Library()


class _SampleForm(forms.Form):
    reason = forms.CharField(help_text="Stands in the event, for whoever reads it later.")
    weight = forms.IntegerField(min_value=1, max_value=100)

    def clean(self) -> dict[str, object]:
        raise forms.ValidationError("The rollout ended while you typed.")


@register.simple_tag
def samples() -> dict[str, object]:
    """It gives one plausible value for each component."""
    now = timezone.now()
    verdicts = ("pass", "pass", "unclear", "fail", "skipped")
    names = ("accuracy", "schema", "latency", "against v6", "fairness")
    return {
        "states": tuple(STATES),
        "moments": (now, now - timedelta(minutes=3), now - timedelta(days=2)),
        "digest": "sha256:9f2c1e0b7a6d4c58b3f1e2d09a8877665544332211ffeeddccbbaa0099887766",
        "values": [12, 14, 13, 18, 22, 21, None, 25, 31, 28, 27, 33],
        "parts": [
            {"label": "v6 stable", "weight": 90, "index": 5},
            {"label": "v7 candidate", "weight": 10, "index": 6},
        ],
        "steps": [
            {"label": "10 % of traffic", "state": "done", "at": now - timedelta(minutes=9)},
            {"label": "Analysis", "state": "done", "note": "errors 0.4 % against 0.4 %"},
            {"label": "50 % of traffic", "state": "current", "note": "waits for 500 requests"},
            {"label": "100 % of traffic", "state": "ahead"},
        ],
        "checks": [
            {"name": name, "verdict": verdict}
            for name, verdict in zip(names, verdicts, strict=True)
        ],
        "endpoint": SimpleNamespace(
            name="flight-delay", environment=SimpleNamespace(name="production")
        ),
        "tabs": [
            {"label": "Overview", "url": "#overview", "current": True},
            {"label": "Checks", "url": "#checks", "count": 5},
            {"label": "Files", "url": "#files", "count": 12345},
        ],
        "series": range(1, 9),
        "form": _SampleForm({"weight": "200"}),
        "page": Paginator(range(1, 1234), 25).page(4),
    }


@register.simple_tag
def sample_figure() -> SafeString:
    """It gives a Plotly figure as JSON that is safe inside a script element."""
    minutes = [f"2026-01-01T14:{minute:02d}:00Z" for minute in range(30)]
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"v{number}",
            "x": minutes,
            "y": [base + (place * step) % 9 for place in range(30)],
            "line": {"color": f"var(--series-{number - 1})"},
        }
        for number, base, step in ((6, 38, 5), (7, 52, 7))
    ]
    mark = {"type": "line", "xref": "x", "yref": "paper", "y0": 0, "y1": 1}
    step_at = minutes[12]
    words = {"text": "50 %", "yref": "paper", "y": 1, "yanchor": "bottom"}
    layout = {
        "yaxis": {"title": {"text": "p95, ms"}},
        "shapes": [{**mark, "x0": step_at, "x1": step_at}],
        "annotations": [{**words, "x": step_at}],
    }
    text = json.dumps({"data": traces, "layout": layout})
    return mark_safe(text.replace("<", "\\u003c"))
