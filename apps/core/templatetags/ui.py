"""Template tags for the page components; each is shown once on the style guide.

Filters write numbers (`num`, `percent`, `rate`, `bytes`, `duration`, `ms`, `us`), tags draw parts.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django import template
from django.core.paginator import Page
from django.forms import BaseForm, BoundField
from django.template.context import Context
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from lucide import IconDoesNotExist
from lucide.templatetags.lucide import lucide as draw_icon

from apps.core.templatetags import drawing, formats, states

register = template.Library()

# Word of the tab, as a page gives it -> what people read and the name of its address.
ENDPOINT_TABS = {
    "overview": ("Overview", "endpoint"),
    "monitoring": ("Monitoring", "endpoint-monitoring"),
    "quality": ("Quality", "endpoint-quality"),
    "log": ("Log", "endpoint-log"),
    "incidents": ("Incidents", "endpoint-incidents"),
}

for _name, _filter in {
    "num": formats.format_num,
    "percent": formats.format_percent,
    "points": formats.format_points,
    "rate": formats.format_rate,
    "bytes": formats.format_bytes,
    "duration": formats.format_duration,
    "ms": formats.format_ms,
    "us": formats.format_us,
    "revision_index": formats.revision_index,
}.items():
    register.filter(_name, _filter)


@register.filter
def series(number: object) -> str:
    """It gives the CSS class of a version's colour, the same on every page and in every chart."""
    return f"series-{formats.revision_index(number)}"


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """It draws an icon; without a label it is decoration and silent for screen readers."""
    spoken: dict[str, object] = (
        {"role": "img", "aria-label": label} if label else {"aria-hidden": "true"}
    )
    # The name may come from data; an icon that the package dropped must not break a whole page.
    try:
        drawn = draw_icon(name, size=16, **{"class": "icon", **spoken})
    except IconDoesNotExist:
        drawn = draw_icon("circle", size=16, **{"class": "icon", **spoken})
    return mark_safe(drawn)


@register.inclusion_tag("core/components/badge.html")
def badge(text: object, state: str = "idle") -> dict[str, object]:
    """It shows a word with a tone (good bad warn busy wait idle) or with a state's own look."""
    if state in states.TONES:
        return {"word": text, "tone": state, "icon": states.TONE_ICONS[state]}
    look = states.state_of(state)
    return {"word": text, "tone": look.tone, "icon": look.icon}


@register.inclusion_tag("core/components/badge.html")
def status(value: object) -> dict[str, object]:
    """It shows a state as icon, word and colour."""
    look = states.state_of(value)
    return {"word": look.word, "tone": look.tone, "icon": look.icon}


@register.simple_tag
def state_icon(value: object) -> SafeString:
    """It draws only the icon of a state, which speaks the word."""
    look = states.state_of(value)
    return format_html('<span class="tone-{}">{}</span>', look.tone, icon(look.icon, look.word))


@register.simple_tag
def when(at: datetime | None, empty: str = formats.NOT_MEASURED) -> SafeString:
    """It shows how long ago; the page keeps it fresh and tells the exact instant on hover."""
    if at is None:
        return format_html("<span>{}</span>", empty)
    return format_html(
        '<time datetime="{}" title="{}" data-when>{}</time>',
        at.isoformat(),
        formats.format_instant(at),
        formats.format_relative(at, timezone.now()),
    )


@register.inclusion_tag("core/components/digest.html")
def digest(value: str | None) -> dict[str, object]:
    """It shows a digest short, with the whole of it to copy."""
    return {"value": value or "", "short": formats.short_digest(value or "")}


@register.inclusion_tag("core/components/copyable.html")
def copyable(command: str, label: str = "command") -> dict[str, object]:
    """It shows a command as it is typed, with a copy button."""
    return {"command": command, "label": label}


@register.inclusion_tag("core/components/empty_state.html")
def empty_state(
    title: str, text: str = "", command: str = "", icon_name: str = "circle-dashed"
) -> dict[str, object]:
    """It tells what is not there yet and the next step, with the exact command to copy."""
    return {"title": title, "text": text, "command": command, "icon_name": icon_name}


@register.inclusion_tag("core/components/sparkline.html")
def sparkline(
    values: Sequence[float | None], label: str, index: int | None = None
) -> dict[str, object]:
    """It draws values of equal distance in time; `None` is a gap. `index` is a series colour."""
    seen = [value for value in values if value is not None]
    if seen:
        least, most = formats.format_num(min(seen)), formats.format_num(max(seen))
        words = f"{label}: lowest {least}, highest {most}, last {formats.format_num(values[-1])}"
    else:
        words = f"{label}: not measured yet"
    return {
        "lines": drawing.spark_lines(values),
        "words": words,
        "width": drawing.SPARK_WIDTH,
        "height": drawing.SPARK_HEIGHT,
        "css": "" if index is None else f"series-{index}",
    }


@register.inclusion_tag("core/components/split_bar.html")
def split_bar(parts: Sequence[Mapping[str, object]], label: str = "Traffic") -> dict[str, object]:
    """It draws shares of a whole; parts are `{label, weight, index}`, weights of any scale."""
    laid = drawing.slices(parts)
    words = ", ".join(f"{part.label} {formats.format_percent(part.share)}" for part in laid)
    return {"parts": laid, "words": f"{label}: {words or 'none'}", "width": drawing.SPLIT_WIDTH}


@register.inclusion_tag("core/components/interval.html")
def interval_bar(
    low: float, high: float, value: float, tolerance: float | None = None, words: str = ""
) -> dict[str, object]:
    """It draws a difference with interval, zero and tolerance line; `words` says the same."""
    return {"drawn": drawing.interval(low, high, value, tolerance), "words": words}


@register.inclusion_tag("core/components/timeline.html")
def timeline(steps: Sequence[object], label: str = "Steps") -> dict[str, object]:
    """It lists steps in order; each has `label`, `state`, and may have `note` and `at`."""
    return {"steps": steps, "label": label}


@register.inclusion_tag("core/components/checks_strip.html")
def checks_strip(checks: Sequence[object]) -> dict[str, object]:
    """It shows verdicts as a strip of marks; each has `name`, `verdict`, and may have `url`."""
    counts: dict[str, int] = {}
    for check in checks:
        verdict = check.get("verdict") if isinstance(check, Mapping) else _verdict(check)
        word = states.state_of(verdict).word
        counts[word] = counts.get(word, 0) + 1
    words = ", ".join(f"{count} {word}" for word, count in counts.items())
    return {"checks": checks, "words": words or "no checks"}


def _verdict(check: object) -> object:
    return getattr(check, "verdict", "unclear")


@register.inclusion_tag("core/components/tabs.html")
def tabs(items: Sequence[object], label: str = "Sections") -> dict[str, object]:
    """It links the sections of one page; items have `label`, `url`, `current`, may have `count`."""
    return {"items": items, "label": label}


@register.inclusion_tag("core/components/endpoint_tabs.html")
def endpoint_tabs(endpoint: Any, current: str = "overview") -> dict[str, object]:
    """It links the pages of one endpoint; `current` is a word of ENDPOINT_TABS.

    A tab whose page is not part of this installation is left out.
    """
    items = []
    for word, (label, address) in ENDPOINT_TABS.items():
        try:
            url = reverse(address, args=[endpoint.environment.name, endpoint.name])
        except NoReverseMatch:
            continue
        items.append({"label": label, "url": url, "current": word == current})
    return {"items": items}


@register.inclusion_tag("core/components/stat_tile.html")
def stat_tile(
    label: str,
    value: object,
    unit: str = "",
    note: str = "",
    state: str = "",
    url: str = "",
    values: Sequence[float | None] = (),
) -> dict[str, object]:
    """It shows one number with its unit, where it comes from (`url`) and how it went (`values`)."""
    look = states.state_of(state) if state else None
    if state in states.TONES:
        look = states.State(state, state, states.TONE_ICONS[state])
    shown = formats.NOT_MEASURED if value is None else value
    return {
        "label": label,
        "value": shown,
        "unit": "" if value is None else unit,
        "note": note,
        "look": look,
        "url": url,
        "values": values,
    }


@register.inclusion_tag("core/components/confirm_button.html", takes_context=True)
def confirm_button(
    context: Context,
    url: str,
    label: str,
    question: str = "",
    consequence: str = "",
    kind: str = "default",
    **fields: object,
) -> dict[str, object]:
    """It posts to `url`, after asking `question` and telling the consequence.

    `kind` is default, primary or danger. Without a question it posts at once. Other keyword
    arguments are sent as hidden fields.
    """
    return {
        "url": url,
        "label": label,
        "question": question,
        "consequence": consequence,
        "kind": kind,
        "fields": fields,
        "csrf_token": context.get("csrf_token"),
    }


@register.inclusion_tag("core/components/field_errors.html")
def field_errors(form: BaseForm) -> dict[str, object]:
    """It sums up a refused form, each error with a link to the field it belongs to."""
    fields = [form[name] for name in form.errors if name in form.fields]
    return {"form": form, "fields": fields}


@register.inclusion_tag("core/components/form_field.html")
def form_field(field: BoundField) -> dict[str, object]:
    """It shows a field with its label, help and errors beside it.

    Where everything may be left out, as in a filter, nothing needs to say so.
    """
    return {"field": field, "tells": any(one.required for one in field.form.fields.values())}


def _with_query(context: Context, **changes: object) -> str:
    request = context.get("request")
    query = request.GET.copy() if request is not None else None
    if query is None:
        return "?" + "&".join(f"{key}={value}" for key, value in changes.items())
    for key, value in changes.items():
        query[key] = str(value)
    return f"?{query.urlencode()}"


@register.inclusion_tag("core/components/pagination.html", takes_context=True)
def pagination(context: Context, page: "Page[object]") -> dict[str, object]:
    """It links the pages of a list and keeps the list's filter in the address."""
    links = [
        {"number": n, "url": _with_query(context, page=n) if isinstance(n, int) else ""}
        for n in page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1)
    ]
    return {
        "page": page,
        "links": links,
        "previous": _with_query(context, page=page.number - 1) if page.has_previous() else "",
        "next": _with_query(context, page=page.number + 1) if page.has_next() else "",
    }


@register.inclusion_tag("core/components/sort_header.html", takes_context=True)
def sort_header(context: Context, key: str, label: str, css: str = "") -> dict[str, object]:
    """It is a table header that sorts by `key` (`?sort=key`, `?sort=-key`) and says which way."""
    request = context.get("request")
    now = request.GET.get("sort", "") if request is not None else ""
    order = {key: "ascending", f"-{key}": "descending"}.get(now, "")
    wanted = f"-{key}" if now == key else key
    return {
        "label": label,
        "order": order,
        "css": css,
        "url": _with_query(context, sort=wanted),
    }


@register.simple_tag(takes_context=True)
def nav_current(context: Context, url: str) -> SafeString:
    """It marks the navigation entry under which the page stands."""
    request = context.get("request")
    path = request.path if request is not None else ""
    here = path == url or (url != "/" and path.startswith(url))
    return mark_safe(' aria-current="page"' if here else "")
