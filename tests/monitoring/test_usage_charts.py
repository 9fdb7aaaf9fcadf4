"""What replicas use, drawn: a line a replica while they are few, with the limit beside them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from apps.monitoring import pictures
from apps.monitoring.charts import usage
from apps.monitoring.selectors.usage import Series, Summary, Total, Use
from apps.registry.models import Version
from apps.serving.models import Revision

T0 = datetime(2030, 1, 1, 12, tzinfo=UTC)
AT = [T0 + timedelta(minutes=minute) for minute in range(2)]
NOTHING = Use([None, None], [None, None], [None, None])


def revision(number: int) -> Revision:
    return Revision(pk=number, number=number, version=Version(number=number))


def use(mean: list[float | None], limit: float | None = None) -> Use:
    most = [None if value is None else value * 2 for value in mean]
    return Use(mean, most, [limit if value is not None else None for value in mean])


def series(number: int, index: int = 0, **uses: Use) -> Series:
    given = {"processors": NOTHING, "memory_mb": NOTHING, "in_flight": NOTHING} | uses
    return Series(revision(number), index, AT, **given)


def lines(chart: dict[str, Any]) -> dict[str, tuple[str, str, list[float | None]]]:
    return {
        trace["name"]: (trace["line"]["dash"], trace["line"]["color"], trace["y"])
        for trace in chart["figure"]["data"]
    }


def test_few_replicas_have_a_line_each_and_share_their_versions_colour() -> None:
    chart = usage.processors(
        [
            series(1, 0, processors=use([0.5, None], 2.0)),
            series(1, 1, processors=use([0.25, 0.5], 2.0)),
            series(2, 0, processors=use([1.0, 1.5], 2.0)),
        ]
    )
    assert lines(chart) == {
        "v1, replica 0": ("solid", "var(--series-0)", [0.5, None]),
        "v1, replica 1": ("dash", "var(--series-0)", [0.25, 0.5]),
        "v1 most": ("dot", "var(--series-0)", [1.0, 1.0]),
        "v2": ("solid", "var(--series-1)", [1.0, 1.5]),
        "v2 most": ("dot", "var(--series-1)", [2.0, 3.0]),
        "limit": ("dash", "var(--warn)", [2.0, 2.0]),
    }
    assert chart["table"]["columns"] == ["at", *lines(chart)]
    assert chart["table"]["rows"][0] == [AT[0].isoformat(), 0.5, 0.25, 1.0, 1.0, 2.0, 2.0]


def test_of_many_replicas_the_mean_is_drawn() -> None:
    many = [series(1, index, memory_mb=use([100.0 + index, None], 512)) for index in range(9)]
    chart = usage.memory(many)
    assert {name: values for name, (_, _, values) in lines(chart).items()} == {
        "v1 mean": [104.0, None],
        "v1 most": [216.0, None],
        "limit": [512, None],
    }


def test_limits_that_differ_have_a_line_each() -> None:
    chart = usage.in_flight(
        [series(1, in_flight=use([1.0, 1.0], 4)), series(2, in_flight=use([2.0, 2.0], 8))]
    )
    assert list(lines(chart)) == ["v1", "v1 most", "v2", "v2 most", "v1 limit", "v2 limit"]
    unlimited = usage.processors([series(1, processors=use([1.0, 1.0]))])
    assert list(lines(unlimited)) == ["v1", "v1 most"]


def test_who_cannot_tell_has_no_line() -> None:
    chart = usage.processors([series(1), series(2, processors=use([0.0, 0.1]))])
    assert list(lines(chart)) == ["v2", "v2 most"]
    nothing = usage.memory([series(1)])
    assert nothing["figure"]["data"] == []
    assert nothing["table"]["columns"] == ["at"]
    empty = usage.saturation([])
    assert empty["figure"]["data"] == empty["table"]["rows"] == []


def test_saturation_is_of_all_in_flight_and_of_the_fullest_replica() -> None:
    chart = usage.saturation(
        [
            series(1, 0, in_flight=use([6.0, 1.0], 4), memory_mb=use([100.0, 400.0], 400)),
            series(1, 1, in_flight=use([0.0, None], 4), memory_mb=use([300.0, 100.0], 400)),
        ]
    )
    assert {name: values for name, (_, _, values) in lines(chart).items()} == {
        "v1 in flight": [0.75, 0.25],
        "v1 memory": [0.75, 1.0],
    }
    assert chart["table"]["unit"] == "share of the limit"


def test_a_revision_is_summed_in_one_row() -> None:
    row = Summary(revision(3), 2, Total(0.5, 1.5, None), Total(100.0, 256.0, 512), Total(1, 6, 4))
    chart = usage.summary([row])
    assert chart["table"]["columns"] == [
        "revision", "replicas", "processors mean", "processors most", "processors limit",
        "memory mean", "memory most", "memory limit",
        "in flight mean", "in flight most", "in flight limit",
    ]  # fmt: skip
    assert chart["table"]["rows"] == [["v3", 2, 0.5, 1.5, None, 100.0, 256.0, 512, 1, 6, 4]]
    bars = {trace["name"]: trace["y"] for trace in chart["figure"]["data"]}
    assert bars["processors, mean"] == [None]  # there is no limit to compare with
    assert (bars["memory, most"], bars["in flight, most"]) == ([0.5], [1.5])
    assert usage.summary([])["figure"]["data"] == []


def test_all_are_drawn_as_pictures() -> None:
    both = [
        series(1, 0, in_flight=use([6.0, 1.0], 4), memory_mb=use([100.0, 400.0], 400)),
        series(2, 0, processors=use([0.2, 0.4], 2), memory_mb=use([90.0, None], 400)),
    ]
    row = Summary(revision(3), 2, Total(0.5, 1.5, None), Total(100.0, 256.0, 512), Total(1, 6, 4))
    charts = [
        *(
            draw(both)
            for draw in (usage.processors, usage.memory, usage.in_flight, usage.saturation)
        ),
        usage.summary([row]),
        usage.summary([]),
    ]
    for chart in charts:
        assert pictures.png(chart["figure"]).startswith(b"\x89PNG")
