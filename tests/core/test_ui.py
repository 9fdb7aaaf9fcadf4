"""The page components: how numbers and times are written, and what the tags draw."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.paginator import Paginator
from django.forms import CharField, Form
from django.template import Context, Template
from django.test import RequestFactory

from apps.core.templatetags import drawing, formats, states, ui

ROOT = Path(__file__).resolve().parents[2]
DASH = formats.NOT_MEASURED
MINUS = formats.MINUS
NOW = datetime(2026, 3, 1, 14, 5, 0, tzinfo=UTC)


def render(source: str, **values: object) -> str:
    return Template("{% load ui %}" + source).render(Context(values)).strip()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        (987, "987"),
        (999.96, "1 k"),
        (1000, "1 k"),
        (12345, "12.3 k"),
        (336_776, "337 k"),
        (999_999, "1 M"),
        (4_560_000, "4.56 M"),
        (0.12345, "0.123"),
        (-12345, "-12.3 k"),
        ("41", "41"),
        (None, DASH),
        (float("nan"), DASH),
        (float("inf"), DASH),
        (True, DASH),
        ("words", DASH),
    ],
)
def test_num(value: object, text: str) -> None:
    assert formats.format_num(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 %"),
        (0.004, "0.4 %"),
        (0.041, "4.1 %"),
        (0.25, "25 %"),
        (1, "100 %"),
        (0.00003, "0.003 %"),
        (0.0005, "0.05 %"),
        (0.000001, "under 0.001 %"),
        (0.99997, "99.997 %"),
        (0.999999, "99.999 %"),
        (-0.0004, "-0.04 %"),
        (None, DASH),
    ],
)
def test_percent_never_rounds_to_nothing_or_to_all(value: object, text: str) -> None:
    assert formats.format_percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.006, "+0.6 pp"),
        (-0.0371, f"{MINUS}3.7 pp"),
        (0.125, "+12.5 pp"),
        (0, "0 pp"),
        (None, DASH),
    ],
)
def test_points(value: object, text: str) -> None:
    assert formats.format_points(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345, "12.3 k/s"),
        (412.4, "412/s"),
        (0.5, "0.5/s"),
        (0.02, "1.2/min"),
        (0, "0/s"),
        (None, DASH),
    ],
)
def test_rate(value: object, text: str) -> None:
    assert formats.format_rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (512, "512 B"), (1500, "1.5 kB"), (48_210_344, "48.2 MB"), (2.25e9, "2.25 GB")],
)
def test_bytes(value: object, text: str) -> None:
    assert formats.format_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 ms"),
        (0.42, "0.42 ms"),
        (4.13, "4.1 ms"),
        (41.2, "41 ms"),
        (99.7, "100 ms"),
        (999.4, "999 ms"),
        (999.6, "1 s"),
        (1240, "1.24 s"),
        (61_000, "1 min 1 s"),
        (None, DASH),
    ],
)
def test_ms(value: object, text: str) -> None:
    assert formats.format_ms(value) == text


def test_us_is_ms_by_the_thousand() -> None:
    assert formats.format_us(41_200) == "41 ms"
    assert formats.format_us(None) == DASH


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.041, "41 ms"),
        (0.9999, "1 s"),
        (4.23, "4.2 s"),
        (42.5, "42.5 s"),
        (59.97, "1 min"),
        (75, "1 min 15 s"),
        (3600, "1 h"),
        (3700, "1 h 1 min"),
        (timedelta(days=2, hours=3, minutes=9), "2 d 3 h"),
        (-75, f"{MINUS}1 min 15 s"),
        (None, DASH),
    ],
)
def test_duration(value: object, text: str) -> None:
    assert formats.format_duration(value) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(seconds=-3), "just now"),
        (timedelta(seconds=42), "42 s ago"),
        (timedelta(minutes=3, seconds=59), "3 min ago"),
        (timedelta(hours=2), "2 h ago"),
        (timedelta(days=59), "59 d ago"),
        (timedelta(days=90), "3 months ago"),
        (timedelta(days=800), "2 years ago"),
        (timedelta(hours=-5), "in 5 h"),
    ],
)
def test_relative(ago: timedelta, text: str) -> None:
    assert formats.format_relative(NOW - ago, NOW) == text


def test_digest_is_short_and_copies_whole() -> None:
    whole = "sha256:" + "9f2c1e0b7a6d" + "0" * 52
    assert formats.short_digest(whole) == "9f2c1e0b7a6d"
    html = render("{% digest value %}", value=whole)
    assert f'data-copy="{whole}"' in html
    assert ">9f2c1e0b7a6d<" in html
    assert render("{% digest value %}", value=None) == f"<span>{DASH}</span>"


def test_neighbouring_versions_differ_in_colour() -> None:
    assert [formats.revision_index(n) for n in (1, 2, 8, 9, "7", None)] == [0, 1, 7, 0, 6, 0]
    assert ui.series(9) == "series-0"


def test_a_gap_in_a_sparkline_is_not_drawn_over() -> None:
    assert drawing.spark_lines([0, 10, None, 5]) == ["0.0,25.0 40.0,3.0", "120.0,14.0 120.0,14.0"]
    assert drawing.spark_lines([None, None]) == []
    assert drawing.spark_lines([4, 4]) == ["0.0,14.0 120.0,14.0"]


def test_sparkline_says_its_values() -> None:
    html = render("{% sparkline v 'Requests' 2 %}", v=[1000, None, 12345])
    assert "<title>Requests: lowest 1 k, highest 12.3 k, last 12.3 k</title>" in html
    assert html.count("<polyline") == 2
    assert 'class="sparkline series-2"' in html
    assert "<title>Errors: not measured yet</title>" in render("{% sparkline v 'Errors' %}", v=[])


def test_split_bar_lays_parts_side_by_side() -> None:
    parts = [
        {"label": "v6", "weight": 900, "index": 5},
        {"label": "v7", "weight": 100, "index": 14},
    ]
    assert drawing.slices(parts) == [
        drawing.Slice("v6", 0.9, 5, 0.0, 900.0),
        drawing.Slice("v7", 0.1, 6, 900.0, 100.0),
    ]
    html = render("{% split_bar parts %}", parts=parts)
    assert "<title>Traffic: v6 90 %, v7 10 %</title>" in html
    assert '<rect class="series-6" x="900.0" width="100.0"' in html


def test_split_bar_without_traffic_has_no_width() -> None:
    nothing = drawing.slices([{"label": "v1", "weight": 0}])
    assert nothing == [drawing.Slice("v1", 0.0, 0, 0.0, 0.0)]
    assert "<rect" not in render("{% split_bar parts %}", parts=[{"label": "v1", "weight": 0}])


def test_interval_shows_zero_and_tolerance_on_one_axis() -> None:
    drawn = drawing.interval(low=-1, high=3, value=1, tolerance=9, width=232)
    assert drawn == drawing.Interval(
        low_x=16.0, width=80.0, value_x=56.0, zero_x=36.0, tolerance_x=216.0
    )
    assert drawing.interval(0, 0, 0, None).tolerance_x is None


@pytest.mark.parametrize(
    ("value", "word", "tone"),
    [
        ("succeeded", "succeeded", "good"),
        ("FAIL", "fail", "bad"),
        ("unclear", "unclear", "warn"),
        ("rolled-back", "rolled back", "bad"),
        ("brand_new", "brand new", "idle"),
    ],
)
def test_status_is_word_tone_and_icon(value: str, word: str, tone: str) -> None:
    html = render("{% status value %}", value=value)
    assert f'<span class="badge tone-{tone}"><svg' in html
    assert f"<span>{word}</span>" in html


@pytest.mark.parametrize("name", sorted({look.icon for look in states.STATES.values()}))
def test_every_icon_of_a_state_exists(name: str) -> None:
    assert "<svg" in ui.icon(name)
    assert name == "circle" or ui.icon(name) != ui.icon("circle")


def test_an_unknown_icon_does_not_break_the_page() -> None:
    assert ui.icon("no-such-icon") == ui.icon("circle")
    assert 'aria-label="fail"' in ui.icon("circle-x", "fail")


def test_badge_escapes_what_people_typed() -> None:
    html = render("{% badge text 'warn' %}", text="<b>7</b>")
    assert "&lt;b&gt;7&lt;/b&gt;" in html
    assert "tone-warn" in html


def test_when_tells_the_exact_instant() -> None:
    html = ui.when(NOW)
    assert 'datetime="2026-03-01T14:05:00+00:00"' in html
    assert 'title="2026-03-01 14:05:00 UTC"' in html
    assert ui.when(None, "never") == "<span>never</span>"


def test_checks_strip_counts_for_those_who_cannot_see_it() -> None:
    checks = [
        {"name": "accuracy", "verdict": "pass", "url": "/checks/1"},
        {"name": "schema", "verdict": "pass"},
        {"name": "latency", "verdict": "fail"},
    ]
    html = render("{% checks_strip checks %}", checks=checks)
    assert "Checks: 2 pass, 1 fail" in html
    assert '<a href="/checks/1" title="accuracy">' in html
    assert "no checks" in render("{% checks_strip checks %}", checks=[])


def test_timeline_marks_the_current_step() -> None:
    steps = [{"label": "10 %", "state": "done"}, {"label": "50 %", "state": "current"}]
    html = render("{% timeline steps %}", steps=steps)
    assert html.count('<li aria-current="step">') == 1
    assert html.index("10 %") < html.index('aria-current="step"') < html.index("50 %")


def test_tile_shows_a_dash_for_what_is_not_measured() -> None:
    html = render("{% stat_tile 'Quality' value unit='%' %}", value=None)
    assert f"<span>{DASH}</span></p>" in html
    assert "stat-unit" not in html


def test_confirm_button_asks_and_sends_its_fields() -> None:
    source = (
        "{% confirm_button '/abort' 'Abort' question='Abort v7?' consequence='All to v6.'"
        " kind='danger' seen=3 %}"
    )
    html = render(source, csrf_token="token-1")
    assert 'action="/abort"' in html
    assert 'data-confirm="Abort v7?"' in html
    assert 'data-consequence="All to v6."' in html
    assert 'name="csrfmiddlewaretoken" value="token-1"' in html
    assert '<input type="hidden" name="seen" value="3">' in html
    assert "data-confirm" not in render("{% confirm_button '/pause' 'Pause' %}")


class _Form(Form):
    reason = CharField()


def test_field_errors_lead_to_their_field() -> None:
    html = render("{% field_errors form %}", form=_Form({}))
    assert '<a href="#id_reason">Reason</a>: This field is required.' in html
    assert render("{% field_errors form %}", form=_Form({"reason": "because"})) == ""


def test_pagination_keeps_the_filter() -> None:
    request = RequestFactory().get("/models", {"q": "a b", "page": "2"})
    page = Paginator(range(100), 25).page(2)
    html = render("{% pagination page %}", page=page, request=request)
    assert 'rel="prev" href="?q=a+b&amp;page=1"' in html
    assert 'rel="next" href="?q=a+b&amp;page=3"' in html
    assert f"26{DASH}50 of 100" in html
    assert render("{% pagination page %}", page=Paginator([1], 25).page(1), request=request) == ""


def test_sort_header_turns_round() -> None:
    source = "{% sort_header 'rate' 'Requests' %}"
    up = RequestFactory().get("/", {"sort": "rate", "q": "x"})
    html = render(source, request=up)
    assert 'aria-sort="ascending"' in html
    assert 'href="?sort=-rate&amp;q=x"' in html
    fresh = render(source, request=RequestFactory().get("/"))
    assert "aria-sort" not in fresh
    assert 'href="?sort=rate"' in fresh


@pytest.mark.parametrize(
    ("path", "url", "marked"),
    [
        ("/", "/", True),
        ("/models/", "/", False),
        ("/models/7", "/models/", True),
        ("/models-old", "/models/", False),
    ],
)
def test_navigation_marks_where_one_is(path: str, url: str, marked: bool) -> None:
    text = ui.nav_current(Context({"request": RequestFactory().get(path)}), url)
    assert text == (' aria-current="page"' if marked else "")


def test_empty_state_gives_the_command_to_copy() -> None:
    html = render("{% empty_state 'No models' 'Log one.' command=c %}", c='log_model("a")')
    assert 'data-copy="log_model(&quot;a&quot;)"' in html


# Mails are read elsewhere, where our policy does not hold and styles must stand inline.
PAGES = sorted(p for p in (ROOT / "templates").rglob("*.html") if "mail" not in p.as_posix())


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_template_holds_what_the_security_policy_refuses(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"<style\b|\sstyle\s*=|\son[a-z]+\s*=\s*[\"']|javascript:", text) == []
    scripts = re.findall(r"<script\b([^>]*)>", text)
    assert [s for s in scripts if "src=" not in s and "application/json" not in s] == []


def test_the_error_page_needs_no_context() -> None:
    source = (ROOT / "templates" / "500.html").read_text(encoding="utf-8")
    assert "{{" not in source
    assert set(re.findall(r"{% (\w+)", source)) == {"load", "static"}


def test_each_component_stands_on_the_style_guide() -> None:
    shown = (ROOT / "templates" / "core" / "styleguide.html").read_text()
    drawn_within_others = {"icon", "state_icon", "nav_current"}
    missing = [name for name in ui.register.tags if f"{{% {name} " not in shown]
    assert set(missing) == drawn_within_others
