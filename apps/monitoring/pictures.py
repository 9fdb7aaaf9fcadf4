"""Draws our Plotly figures as PNG, for mails and for readers without a browser. Pure.

What a figure of ours may hold: `scatter` (lines, markers, stackgroup, fills, dashes, steps) and
`bar` (grouped, stacked, overlaid, lying), axes that are linear, logarithmic, dates or categories,
and in the layout `shapes` and `annotations`. Anything else of Plotly is left out. Colours are those
of the page's light theme: the same tokens, read from the same sheet.
"""

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Json = Mapping[str, Any]
Colour = tuple[float, float, float, float]
SHEET = Path(__file__).parents[2] / "static" / "core" / "app.css"
DPI = 100
LONGEST_TEXT = 60
PALE = "color-mix(in oklab, var(--line-strong) 12%, transparent)"
_TOKEN = re.compile(r"--([\w-]+):\s*light-dark\(oklch\(([\d.\s]+)(?:/\s*([\d.]+)\s*)?\)")
_VARIABLE = re.compile(r"var\(--([\w-]+)\)")
_MIX = re.compile(r"color-mix\(in \w+,\s*(.+?)\s+([\d.]+)%,\s*transparent\)")
_RGBA = re.compile(r"rgba?\(([\d.\s,]+)\)")
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_STEPS = {"hv": "steps-post", "vh": "steps-pre", "hvh": "steps-mid"}
_TAGS = re.compile(r"<[^>]*>")


def png(figure: Json, width: int = 720, height: int = 360) -> bytes:
    """It draws a figure of so many pixels on the page's light surface."""
    # Only who draws pays for it: half a second and 40 MB at the first picture.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layout = figure.get("layout") or {}
    drawn = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout="constrained")
    drawn.set_facecolor(colour("var(--surface)"))
    axes = drawn.add_subplot()
    _dress(axes)
    axis_x, axis_y = layout.get("xaxis") or {}, layout.get("yaxis") or {}
    traces = [trace for trace in figure.get("data") or [] if trace.get("visible", True) is True]
    handles = _traces(axes, traces, layout)
    _shapes(axes, layout.get("shapes") or [], dates=axis_x.get("type") == "date")
    _axis(axes, "x", axis_x, traces)
    _axis(axes, "y", axis_y, traces)
    _annotations(axes, layout.get("annotations") or [], dates=axis_x.get("type") == "date")
    _legend(axes, handles, layout)
    file = io.BytesIO()
    FigureCanvasAgg(drawn).print_png(file, metadata={"Software": None})
    return file.getvalue()


# ---- colours --------------------------------------------------------------------------------


@cache
def tokens() -> dict[str, Colour]:
    """It reads the light colours of the page's sheet."""
    found = {}
    for name, numbers, alpha in _TOKEN.findall(SHEET.read_text()):
        lightness, chroma, hue = (float(number) for number in numbers.split())
        found[name] = (*_from_oklch(lightness, chroma, hue), float(alpha or 1))
    return found


def colour(text: str) -> Colour:
    """It resolves a colour as figures write it: a token, one made paler, or rgb; else the text's.

    A picture with one wrong colour still says what it has to say, so that nothing is raised.
    """
    if mixed := _MIX.fullmatch(text):
        red, green, blue, alpha = colour(mixed[1])
        return red, green, blue, alpha * float(mixed[2]) / 100
    if variable := _VARIABLE.fullmatch(text):
        return tokens().get(variable[1], tokens()["text"])
    if given := _RGBA.fullmatch(text):
        parts = [float(number) for number in given[1].split(",")] + [1.0]
        return parts[0] / 255, parts[1] / 255, parts[2] / 255, parts[3]
    return tokens()["text"]


def _from_oklch(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """CSS Color 4, section 9 and the sample code for OKLab; out of gamut is clipped."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    red, green, blue = (_encoded(min(1.0, max(0.0, part))) for part in linear)
    return red, green, blue


def _encoded(part: float) -> float:
    return 12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055


# ---- traces ---------------------------------------------------------------------------------


def _traces(axes: "Axes", traces: Sequence[Json], layout: Json) -> list[tuple[Any, str]]:
    """It draws all and gives a handle and a name of each that the legend shows."""
    handles: list[tuple[Any, str]] = []
    below: dict[str, Any] = {}  # stackgroup, "line" or "bar" -> the upper edge of what was drawn
    bars = [trace for trace in traces if trace.get("type") == "bar"]
    for number, trace in enumerate(traces):
        shade = colour(_colour_of(trace, number))
        if trace.get("type") == "bar":
            handle = _bars(axes, trace, bars.index(trace), len(bars), layout, shade, below)
        else:
            handle = _line(axes, trace, shade, below)
        if trace.get("name") and trace.get("showlegend") is not False:
            handles.append((handle, plain(str(trace["name"]))))
    return handles


def _colour_of(trace: Json, number: int) -> str:
    for part in (trace.get("line"), trace.get("marker")):
        if part and isinstance(part.get("color"), str):
            return str(part["color"])
    return f"var(--series-{number % 8})"


def _line(axes: "Axes", trace: Json, shade: Colour, below: dict[str, Any]) -> Any:
    x, y = _values(trace.get("x") or []), _numbers(trace.get("y") or [])
    line = trace.get("line") or {}
    mode = trace.get("mode", "lines")
    step = _STEPS.get(line.get("shape", "linear"), "default")
    # A figure of the page keeps fills apart by a stretch of `None`; a stack has no gaps.
    if group := trace.get("stackgroup"):
        under = below.get(group, np.zeros(len(y)))
        y = under + np.nan_to_num(y)
        below[group] = y
        axes.fill_between(x, under, y, color=(*shade[:3], 0.35), linewidth=0)
    elif trace.get("fill") == "tonexty" and "line" in below:
        filled = colour(trace["fillcolor"]) if "fillcolor" in trace else (*shade[:3], 0.18)
        axes.fill_between(x, below["line"], y, color=filled, linewidth=0)
    elif trace.get("fill") in ("tozeroy", "toself"):
        filled = colour(trace["fillcolor"]) if "fillcolor" in trace else (*shade[:3], 0.18)
        axes.fill_between(x, 0, y, color=filled, linewidth=0)
    below["line"] = y
    [drawn] = axes.plot(
        x,
        y,
        color=shade,
        linewidth=float(line.get("width", 2)) * 0.8 if "lines" in mode else 0,
        linestyle=_DASHES.get(line.get("dash", "solid"), "-"),
        marker="o" if "markers" in mode or len(y) == 1 else None,
        markevery=_dots(trace, len(y)),
        markersize=4,
        drawstyle=step,
    )
    return drawn


def _dots(trace: Json, many: int) -> list[int]:
    """The places of the values that have a dot; a list of sizes says which."""
    sizes = (trace.get("marker") or {}).get("size")
    if not isinstance(sizes, list):
        return list(range(many))
    return [place for place, size in enumerate(sizes[:many]) if size]


def _bars(
    axes: "Axes",
    trace: Json,
    place: int,
    among: int,
    layout: Json,
    shade: Colour,
    below: dict[str, Any],
) -> Any:
    """Bars stand side by side, upon one another or over one another, as `barmode` says."""
    lying = trace.get("orientation") == "h"
    where, size = (trace.get("y"), trace.get("x")) if lying else (trace.get("x"), trace.get("y"))
    lengths = np.nan_to_num(_numbers(size or []))
    mode = layout.get("barmode", "group")
    positions = _positions(where or [])
    width = 0.8 * _pitch(positions) / (among if mode == "group" else 1)
    bottom: Any = 0
    if mode == "group":
        positions = positions + (place - (among - 1) / 2) * width
    elif mode in ("stack", "relative"):
        bottom = below.get("bar", np.zeros(len(lengths)))
        below["bar"] = bottom + lengths
    alpha = float(trace.get("opacity", 1)) * shade[3]
    look: Json = {"color": (*shade[:3], alpha), "linewidth": 0}
    if lying:
        return axes.barh(positions, lengths, height=width, left=bottom, **look)
    return axes.bar(positions, lengths, width=width, bottom=bottom, **look)


def _positions(values: Sequence[Any]) -> "np.ndarray[Any, Any]":
    """Texts stand at 0, 1, 2 ...; moments and numbers where they are."""
    from matplotlib.dates import date2num

    found = _values(values)
    if found and isinstance(found[0], datetime):
        return np.asarray(date2num(found), dtype=float)
    if all(isinstance(value, int | float) for value in found):
        return np.asarray(found, dtype=float)
    return np.arange(len(found), dtype=float)


def _pitch(positions: "np.ndarray[Any, Any]") -> float:
    steps = np.diff(np.unique(positions))
    return float(steps.min()) if steps.size else 1.0


def _values(values: Iterable[Any]) -> list[Any]:
    return [_moment(value) if isinstance(value, str) else value for value in values]


def _moment(text: str) -> Any:
    # "2030" and "20" are names of bins and no moments, though fromisoformat reads some of them.
    if len(text) < 10 or text[4:5] != "-":
        return text
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


def _numbers(values: Iterable[Any]) -> "np.ndarray[Any, Any]":
    return np.asarray([np.nan if value is None else float(value) for value in values])


# ---- axes, marks and words ------------------------------------------------------------------


def _dress(axes: "Axes") -> None:
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y", color=colour("var(--line)"), linewidth=0.8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colour("var(--line-strong)"))
    axes.tick_params(colors=colour("var(--muted)"), labelsize=8, length=0)
    axes.margins(x=0.01)


def _axis(axes: "Axes", name: str, axis: Json, traces: Sequence[Json]) -> None:
    target = getattr(axes, f"{name}axis")
    if axis.get("type") == "log":
        getattr(axes, f"set_{name}scale")("log")
    elif axis.get("type") == "date":
        _dates(target)
    _categories(target, name, traces)
    if title := _text_of(axis.get("title")):
        target.set_label_text(plain(title), color=colour("var(--muted)"), fontsize=8)
    if "%" in str(axis.get("tickformat", "")):
        from matplotlib.ticker import PercentFormatter

        target.set_major_formatter(PercentFormatter(1.0))
    if limits := axis.get("range"):
        _limit(axes, name, limits, log=axis.get("type") == "log")
    elif name == "y" and axis.get("type") != "log" and axes.get_ylim()[0] > 0:
        axes.set_ylim(bottom=0)
    if axis.get("autorange") == "reversed":
        target.set_inverted(True)


def _dates(target: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=7)
    target.set_major_locator(locator)
    target.set_major_formatter(ConciseDateFormatter(locator))
    target.get_offset_text().set(color=colour("var(--muted)"), fontsize=8)


def _limit(axes: "Axes", name: str, limits: Sequence[Any], *, log: bool) -> None:
    ends = [_moment(end) if isinstance(end, str) else end for end in limits]
    if log:  # Plotly gives the ends of a logarithmic axis as powers of ten
        ends = [None if end is None else 10.0**end for end in ends]
    getattr(axes, f"set_{name}lim")(*ends)


def _categories(target: Any, name: str, traces: Sequence[Json]) -> None:
    """It names the places of bars whose ends are texts, a dozen of them at most."""
    for trace in traces:
        values = _values(trace.get(name) or [])
        if trace.get("type") != "bar" or not values or not isinstance(values[0], str):
            continue
        every = max(1, math.ceil(len(values) / 12))
        places = list(range(0, len(values), every))
        crowded = name == "x" and sum(len(values[place]) for place in places) > 90
        target.set_ticks(places, [plain(values[place], 24) for place in places])
        if crowded:
            target.set_tick_params(rotation=30)
        return


def _shapes(axes: "Axes", shapes: Sequence[Json], *, dates: bool) -> None:
    for shape in shapes:
        line = shape.get("line") or {}
        look: Json = {
            "color": colour(line.get("color", "var(--line-strong)")),
            "linewidth": float(line.get("width", 1)),
            "linestyle": _DASHES.get(line.get("dash", "dot"), ":"),
        }
        x0, x1 = (_end(shape.get(key), dates=dates) for key in ("x0", "x1"))
        if shape.get("type") == "rect":
            filled = colour(
                shape.get("fillcolor", "color-mix(in oklab, var(--bad) 8%, transparent)")
            )
            if shape.get("yref") == "paper":
                axes.axvspan(x0, x1, color=filled, linewidth=0)
            else:
                axes.axhspan(shape["y0"], shape["y1"], color=filled, linewidth=0)
        elif shape.get("yref") == "paper":
            axes.axvline(x0, **look)
        elif shape.get("xref") == "paper":
            axes.axhline(shape["y0"], **look)
        else:
            axes.plot([x0, x1], [shape["y0"], shape["y1"]], **look)


def _annotations(axes: "Axes", notes: Sequence[Json], *, dates: bool) -> None:
    for note in notes:
        on_x = axes.transData if note.get("xref") != "paper" else axes.transAxes
        on_y = axes.transData if note.get("yref") != "paper" else axes.transAxes
        from matplotlib.dates import date2num
        from matplotlib.transforms import blended_transform_factory

        x = _end(note.get("x", 0), dates=dates)
        axes.text(
            float(date2num(x)) if isinstance(x, datetime) else x,
            note.get("y", 1),
            plain(str(note.get("text", ""))),
            transform=blended_transform_factory(on_x, on_y),
            color=colour((note.get("font") or {}).get("color", "var(--muted)")),
            fontsize=7,
            ha={"left": "left", "right": "right"}.get(note.get("xanchor", "center"), "center"),
            va={"bottom": "bottom", "top": "top"}.get(note.get("yanchor", "center"), "center"),
            clip_on=True,
        )


def _end(value: Any, *, dates: bool) -> Any:
    return _moment(value) if dates and isinstance(value, str) else value


def _legend(axes: "Axes", handles: Sequence[tuple[Any, str]], layout: Json) -> None:
    if title := _text_of(layout.get("title")):
        axes.set_title(
            plain(title, 110), loc="left", fontsize=10, color=colour("var(--text)"), pad=22
        )
    if len(handles) < 2 and not layout.get("showlegend"):
        return
    axes.legend(
        [handle for handle, _ in handles],
        [name for _, name in handles],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=min(6, max(1, len(handles))),
        frameon=False,
        fontsize=8,
        labelcolor=colour("var(--muted)"),
        handlelength=1.6,
        borderaxespad=0.2,
    )


def _text_of(title: Any) -> str:
    return str((title.get("text") if isinstance(title, Mapping) else title) or "")


def plain(text: str, longest: int = LONGEST_TEXT) -> str:
    """It gives a text as the picture can write it: names of features are anything.

    A pair of dollar signs would be read as a formula, a name that begins with "_" would be left out
    of the legend, and a character that the font lacks would be a warning for each.
    """
    known = _characters()
    kept = "".join(c if ord(c) in known else "\N{WHITE SQUARE}" for c in _TAGS.sub(" ", text))
    short = kept if len(kept) <= longest else kept[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return (" " + short if short.startswith("_") else short).replace("$", r"\$")


@cache
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
