"""Figures as PNG: of the size that was asked for, in the page's colours, whatever they are of."""

import struct
from datetime import UTC, datetime, timedelta
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.image import imread

from apps.monitoring import pictures
from apps.monitoring.charts import features
from apps.monitoring.charts.parts import Mark, marked

START = datetime(2030, 1, 1, tzinfo=UTC)
TIMES = [(START + timedelta(minutes=minute)).isoformat() for minute in range(30)]


def line(values: list[float | None], **more: object) -> dict[str, object]:
    return {"type": "scatter", "mode": "lines", "name": "v1", "x": TIMES, "y": values,
            "line": {"color": "var(--series-0)"}, **more}  # fmt: skip


def pixels(png: bytes) -> npt.NDArray[np.float64]:
    return np.asarray(imread(BytesIO(png)))[..., :3]


def share_of(png: bytes, token: str) -> float:
    """How much of the picture has a colour of the page."""
    wanted = np.array(pictures.colour(f"var(--{token})")[:3])
    near = np.abs(pixels(png) - wanted).max(axis=2) < 0.01
    return float(near.mean())


def test_it_is_a_png_of_the_size_that_was_asked_for() -> None:
    png = pictures.png(
        {"data": [line([1.0] * 30)], "layout": {"xaxis": {"type": "date"}}}, 480, 200
    )
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (480, 200)


def test_tokens_are_those_of_the_sheet_in_light() -> None:
    tokens = pictures.tokens()
    assert tokens["surface"] == pytest.approx((1, 1, 1, 1))
    assert [f"series-{place}" in tokens for place in range(8)] == [True] * 8
    # oklch(0.52 0.16 258) as a browser shows it: rgb(36, 102, 195)
    assert [round(part * 255) for part in tokens["series-0"][:3]] == [36, 102, 195]


def test_colours_are_resolved_and_never_raise() -> None:
    assert pictures.colour("rgba(255, 0, 0, 0.5)") == (1, 0, 0, 0.5)
    assert pictures.colour("color-mix(in oklab, var(--surface) 40%, transparent)")[3] == 0.4
    assert pictures.colour("var(--nothing)") == pictures.tokens()["text"]
    assert pictures.colour("hotpink") == pictures.tokens()["text"]


def test_lines_bars_and_stacks_show_their_colours() -> None:
    thick = pictures.png({"data": [line([1.0, 5.0, None, 2.0, 3.0] * 6)], "layout": {}})
    assert share_of(thick, "series-0") > 0.001
    assert share_of(pictures.png({"data": [], "layout": {}}), "series-0") == 0
    bars = {"type": "bar", "name": "a", "x": ["JFK", "LGA"], "y": [0.5, 0.5],
            "marker": {"color": "var(--series-3)"}}  # fmt: skip
    for mode in ("group", "stack", "overlay"):
        png = pictures.png({"data": [bars, bars | {"name": "b"}], "layout": {"barmode": mode}})
        assert share_of(png, "series-3") > 0.2, mode
    lying = {**bars, "x": [0.5, 0.25], "y": ["JFK", "LGA"], "orientation": "h"}
    assert share_of(pictures.png({"data": [lying], "layout": {}}), "series-3") > 0.2


def test_a_lying_bar_grows_to_the_right() -> None:
    bar = {"type": "bar", "x": [1.0], "y": ["all"], "orientation": "h",
           "marker": {"color": "var(--series-3)"}}  # fmt: skip
    drawn = pixels(pictures.png({"data": [bar], "layout": {}}, 400, 200))
    wanted = np.array(pictures.colour("var(--series-3)")[:3])
    rows = (np.abs(drawn - wanted).max(axis=2) < 0.01).any(axis=1).sum()
    assert rows > 100


@pytest.mark.parametrize(
    "figure",
    [
        {},
        {"data": [line([], x=[])], "layout": {"xaxis": {"type": "date"}}},
        {"data": [line([None] * 30)], "layout": {"yaxis": {"type": "log"}}},
        {"data": [line([1.0] * 30, stackgroup="a"), line([None] * 30, stackgroup="a")]},
        {"data": [line([1.0] * 30), line([2.0] * 30, fill="tonexty")]},
        {"data": [line([0.1] * 30)], "layout": {"yaxis": {"tickformat": ".0%", "range": [0, 1]}}},
        {"data": [line([1.0] * 30, name="_hidden $x^$ 機場")], "layout": {"showlegend": True}},
        {"data": [line([3.0] * 30)], "layout": {"yaxis": {"type": "log", "range": [0, 2]}}},
        {"data": [{"type": "bar", "x": list(range(40)), "y": [1] * 40}]},
        {"data": [{"type": "bar", "x": [], "y": []}]},
        {"data": [{"type": "bar", "x": TIMES, "y": [1.0] * 30}],
         "layout": {"title": {"text": "T" * 500}, "xaxis": {"type": "date"}}},
        {"data": [{"type": "bar", "x": ["2030-01-01x", "_b", "$c$"], "y": [1, None, 2]}]},
        {"data": [line([1.0] * 30)],
         "layout": {"shapes": [{"type": "rect", "x0": TIMES[3], "x1": TIMES[9], "yref": "paper"}],
                    "xaxis": {"type": "date"}}},
    ],
)  # fmt: skip
def test_whatever_is_in_a_figure_makes_a_picture(figure: dict[str, object]) -> None:
    png = pictures.png(figure)
    assert struct.unpack(">II", png[16:24]) == (720, 360)


def test_what_our_charts_make_is_drawn_with_their_marks() -> None:
    at = [START + timedelta(hours=hour) for hour in range(4)]
    chart = features.drift(
        at, {"distance": [0.01, 0.3, None], "origin": [0.0, 0.1, 0.2]}, threshold=0.08, critical=0.2
    )
    plain = pictures.png(chart["figure"])
    assert share_of(plain, "series-0") > 0.0005
    chart = marked(chart, [Mark(at[1], "v2 5 %"), Mark(at[2], "v2 25 %")], at[0], at[3])
    assert len(chart["figure"]["layout"]["annotations"]) == 2
    assert pictures.png(chart["figure"]) != plain
