"""What the charts show, the windows that people choose, and the words of the first line."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import pytest
from django.http import QueryDict

from apps.monitoring import headline, minis, spans
from apps.monitoring.charts import features, requests
from apps.monitoring.charts.parts import Mark, marked
from apps.monitoring.drift import ColumnDrift, Share, State
from apps.monitoring.forms import ChoiceForm, SliceForm
from apps.monitoring.selectors.columns import LEAST_ROWS, stretches
from apps.monitoring.selectors.requests import Answered, Series
from apps.registry.models import Version
from apps.serving.models import Revision

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTES = [NOW + timedelta(minutes=minute) for minute in range(3)]


def series(pk: int, version: int, **changes: Any) -> Series:
    revision = Revision(pk=pk, number=pk, version=Version(number=version))
    nothing: list[float | None] = [None, None, None]
    return replace(
        Series(revision, MINUTES, [1.0, 2.0, 0.0], [0.0] * 3, [0.0] * 3, *([nothing] * 5)),
        **changes,
    )


def test_a_version_has_one_colour_and_a_name_of_its_own() -> None:
    chart = requests.traffic([series(1, 1), series(2, 2), series(3, 2)])
    traces = chart["figure"]["data"]
    assert [trace["name"] for trace in traces] == [
        "v1", "v2 (revision 2)", "v2 (revision 3)",
    ]  # fmt: skip
    assert [trace["line"]["color"] for trace in traces] == [
        "var(--series-0)", "var(--series-1)", "var(--series-1)",
    ]  # fmt: skip
    assert chart["table"]["rows"][1] == ["2030-01-01T12:01:00+00:00", 2.0, 2.0, 2.0]


def test_latency_shows_the_percentiles_that_were_asked_for() -> None:
    one = series(1, 1, p90_ms=[5.0, None, 6.0], p999_ms=[9.0, None, 9.5])
    chart = requests.latency([one], ("p90", "p99.9"))
    assert chart["table"]["columns"] == ["at", "v1 p90", "v1 p99.9"]
    assert chart["table"]["rows"][0][1:] == [5.0, 9.0]
    assert chart["figure"]["data"][0]["y"] == [5.0, None, 6.0]


def test_a_value_between_two_gaps_is_a_dot() -> None:
    one = series(1, 1, p50_ms=[5.0, None, 6.0])
    [trace] = requests.latency([one], ("p50",))["figure"]["data"]
    assert (trace["mode"], trace["marker"]["size"]) == ("lines+markers", [5, 0, 5])
    [trace] = requests.latency([series(1, 1, p50_ms=[5.0, 6.0, None])], ("p50",))["figure"]["data"]
    assert (trace["mode"], "marker" in trace) == ("lines", False)
    chart = requests.latency([one])
    assert chart["table"]["columns"][1:] == ["v1 p50", "v1 p90", "v1 p95", "v1 p99", "v1 p99.9"]
    drawn = [trace.get("visible", True) for trace in chart["figure"]["data"]]
    assert drawn == [True, "legendonly", True, True, "legendonly"]
    many = requests.latency([series(pk, pk) for pk in range(1, 4)])
    assert (len(many["figure"]["data"]), len(many["table"]["columns"])) == (9, 16)


def test_the_gateways_time_is_what_callers_waited_more() -> None:
    callers = series(1, 1, p50_ms=[5.0, 4.0, None], p95_ms=[9.0, 9.0, 9.0])
    model = series(1, 1, p50_ms=[3.5, 4.5, 2.0], p95_ms=[8.0, None, 7.0])
    table = requests.gateway([callers], [model])["table"]
    assert table["columns"] == [
        "at", "v1 gateway p50", "v1 model p50", "v1 gateway p95", "v1 model p95",
    ]  # fmt: skip
    assert [row[1:] for row in table["rows"]] == [
        [1.5, 3.5, 1.0, 8.0], [0.0, 4.5, None, None], [None, 2.0, 2.0, 7.0],
    ]  # fmt: skip
    unseen = requests.gateway([callers], [])["table"]["rows"]
    assert unseen[0][1:] == [None, None, None, None]


def test_distances_hold_to_the_end_of_their_stretch() -> None:
    at = [*MINUTES, NOW + timedelta(minutes=3)]
    chart = features.drift(at, {"distance": [0.1, None, 0.3]}, threshold=0.08, critical=0.2)
    [trace] = chart["figure"]["data"]
    assert trace["y"] == [0.1, None, 0.3, 0.3]
    assert len(trace["x"]) == 4
    assert trace["line"]["shape"] == "hv"
    levels = [shape["y0"] for shape in chart["figure"]["layout"]["shapes"]]
    assert levels == [0.08, 0.2]
    assert len(chart["table"]["rows"]) == 3
    empty = features.drift([], {}, threshold=0.08, critical=0.2)
    assert empty["figure"]["data"] == empty["table"]["rows"] == []


def test_only_columns_that_lack_values_are_drawn_worst_first() -> None:
    at = [*MINUTES[:2], NOW + timedelta(minutes=2)]
    chart = features.missing(at, {"a": [0.0, 0.0], "b": [0.1, 0.0], "c": [0.0, 0.5]})
    assert [trace["name"] for trace in chart["figure"]["data"]] == ["c", "b"]
    assert chart["table"]["columns"] == ["at", "c", "b"]


def test_columns_that_lack_nothing_are_not_a_time_without_rows() -> None:
    """The chart said that nothing was measured, beside a table of 12,000 rows."""
    at = [*MINUTES[:2], NOW + timedelta(minutes=2)]
    chart = features.missing(at, {"a": [0.0, None], "b": [0.0, None]})
    assert [trace["name"] for trace in chart["figure"]["data"]] == ["each column"]
    assert [row[1] for row in chart["table"]["rows"]] == [0.0, None]
    assert features.missing(at, {"a": [0.0, 0.0]})["table"]["columns"] == ["at", "a"]
    assert features.missing(at, {"a": [None, None]})["figure"]["data"] == []


def test_a_distribution_shows_shares_of_each_sides_own_rows() -> None:
    chart = features.distribution(["a", "b"], [30, 10], [0, 0])
    assert [trace["y"] for trace in chart["figure"]["data"]] == [[0.75, 0.25], [0.0, 0.0]]
    assert chart["table"]["rows"] == [["a", 0.75, 0.0], ["b", 0.25, 0.0]]


def test_every_mark_is_a_line_and_has_words_where_there_is_room() -> None:
    """Three steps of a rollout within minutes lay upon each other, and nobody could read any."""
    marks = [
        Mark(NOW + timedelta(minutes=minute), f"v2 {minute} %")
        for minute in (0, 40, 50, 80, 81, 82)
    ]
    span = (NOW - timedelta(minutes=18), NOW + timedelta(minutes=82))
    layout = marked(requests.traffic([series(1, 1)]), marks, *span)["figure"]["layout"]
    assert layout["xaxis"]["range"] == [moment.isoformat() for moment in span]
    assert len(layout["shapes"]) == 6
    assert [(note["text"], note["xanchor"], note["y"]) for note in layout["annotations"]] == [
        ("v2 0 %", "left", 1), ("v2 50 %", "left", 1), ("v2 82 %", "right", 1),
    ]  # fmt: skip
    bars = features.distribution(["a"], [1], [1])
    assert "nticks" not in bars["figure"]["layout"]["xaxis"]
    scores = features.distribution([str(bin_) for bin_ in range(100)], [1] * 100, [1] * 100)
    assert scores["figure"]["layout"]["xaxis"]["nticks"] == 12
    assert "shapes" not in marked(bars, marks, *span)["figure"]["layout"]


def test_steps_are_joined_until_they_hold_rows_enough() -> None:
    starts = [NOW + timedelta(minutes=minute) for minute in range(7)]
    rows = np.array([0, 300, 0, 200, 600, 0, 499])
    counts = np.stack([rows, rows * 2], axis=1)
    at, joined = stretches(starts, counts, rows, 60)
    assert LEAST_ROWS == 500
    assert at == [starts[1], starts[4], starts[5]]
    assert [part.tolist() for part in joined] == [[500, 1000], [600, 1200]]
    assert stretches(starts, counts, np.zeros(7, dtype=np.int64), 60) == ([], [])


@pytest.mark.parametrize(
    ("window", "requests_step", "rows_step"),
    [("1h", 30, 300), ("6h", 300, 900), ("24h", 900, 3600), ("7d", 3600, 21_600),
     ("30d", 21_600, 86_400), ("90d", 86_400, 86_400), ("1y", 86_400, 86_400)],
)  # fmt: skip
def test_a_window_has_a_step_that_can_be_drawn(
    window: str, requests_step: int, rows_step: int
) -> None:
    since = NOW - spans.WINDOWS[window]
    assert spans.step_of_requests(since, NOW, NOW) == requests_step
    assert spans.step_of_rows(since, NOW, NOW) == rows_step


def test_an_old_hour_has_only_the_steps_that_are_still_kept() -> None:
    for days, step in ((1, 30), (7, 30), (9, 60), (20, 300), (60, 3600), (500, 86_400)):
        until = NOW - timedelta(days=days)
        assert spans.step_of_requests(until - timedelta(hours=1), until, NOW) == step, days


# ---- the choice in the address ---------------------------------------------------------------


def choice(query: str) -> ChoiceForm:
    """Of three revisions, of which the third only ever answered copies."""
    revisions = [series(pk, version).revision for pk, version in ((3, 3), (2, 2), (1, 1))]
    answered = Answered(callers=frozenset({1, 2}), copies=frozenset({2, 3}))
    return ChoiceForm(QueryDict(query), revisions=revisions, stable=2, slices=[], answered=answered)


def chosen(query: str) -> Any:
    return choice(query).chosen()


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", "callers"),
        ("rows=copies", "copies"),
        ("revision=3", "copies"),
        ("revision=3&rows=callers", "callers"),
        ("revision=1", "callers"),
        ("rows=none", "callers"),
    ],
)
def test_what_only_answers_copies_is_shown_by_them(query: str, shown: str) -> None:
    assert chosen(query).copies is (shown == "copies")
    if "none" not in query:
        assert choice(query)["rows"].value() == shown


def test_an_empty_address_means_the_stable_revisions_last_day() -> None:
    found = chosen("")
    assert (found.window, found.revision.pk, found.against) == ("24h", 2, "baseline")
    assert (found.other, found.slice, found.until) == (None, None, None)
    assert found.is_live


def test_the_address_says_what_is_shown() -> None:
    found = chosen("window=7d&revision=3&compare=1&column=in.distance&until=2030-01-01T00:00:00Z")
    assert (found.window, found.revision.pk, found.other.pk) == ("7d", 3, 1)
    assert (found.column, found.against) == ("in.distance", "baseline")
    assert found.until == datetime(2030, 1, 1, tzinfo=UTC)
    assert not found.is_live
    assert chosen("compare=previous").against == "previous"


def test_a_wrong_address_is_read_as_far_as_it_can_be() -> None:
    found = chosen("window=5y&revision=99&compare=x&slice=7&until=soon")
    assert (found.window, found.revision.pk, found.against) == ("24h", 2, "baseline")
    assert (found.slice, found.until) == (None, None)


@pytest.mark.parametrize(
    ("op", "value", "condition"),
    [
        ("eq", "JFK", {"value": "JFK"}),
        ("gt", "1000", {"value": 1000}),
        ("le", "0.5", {"value": 0.5}),
        ("in", "JFK, LGA,", {"value": ["JFK", "LGA"]}),
        ("eq", "01001", {"value": "01001"}),
        ("ne", "1e5", {"value": "1e5"}),
        ("in", "007, +5", {"value": ["007", "+5"]}),
        ("eq", "true", {"value": "true"}),
        ("between", "1, 5.5", {"value": [1, 5.5]}),
        ("is_null", "", {}),
    ],
)
def test_a_slice_is_written_as_a_condition(op: str, value: str, condition: Any) -> None:
    given = {"name": "x", "column": "in.a", "op": op, "value": value}
    form = SliceForm(given, columns=["in.a"])
    assert form.is_valid()
    assert form.condition == [{"column": "in.a", "op": op, **condition}]


def test_a_slice_may_have_several_conditions() -> None:
    given = {
        "name": "x", "column": "in.a", "op": "eq", "value": "JFK",
        "column2": "in.b", "op2": "between", "value2": "1,2", "column3": "", "op3": "gt",
    }  # fmt: skip
    form = SliceForm(given, columns=["in.a", "in.b"])
    assert form.is_valid()
    assert form.condition == [
        {"column": "in.a", "op": "eq", "value": "JFK"},
        {"column": "in.b", "op": "between", "value": [1, 2]},
    ]
    lacking = SliceForm(given | {"value2": ""}, columns=["in.a", "in.b"])
    assert lacking.errors == {"value2": ["Say what it is compared with."]}


def test_a_comparison_needs_a_value() -> None:
    form = SliceForm({"name": "x", "column": "in.a", "op": "eq", "value": ""}, columns=["in.a"])
    assert form.errors == {"value": ["Say what it is compared with."]}


# ---- words -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    state: str
    text: str
    note: str


QUIET = Share(0.0, 0.0, State.QUIET)


def column(
    label: str, state: State = State.QUIET, kind: str = "numeric", **shares: Share
) -> ColumnDrift:
    signals = dict.fromkeys(headline.SIGNALS, QUIET) | shares
    figures: dict[str, Any] = {
        "label": label, "state": state, "kind": kind, "reference_rows": 20_000, **signals,
    }  # fmt: skip
    return cast(ColumnDrift, type("Column", (), figures)())


def told(*columns: ColumnDrift, rows: int = 12_300) -> Told:
    found = headline.of_columns(columns, rows, "24 h")
    return Told(found.state, found.text, found.note)


def test_quiet_columns_are_said_to_look_like_the_reference() -> None:
    assert told(column("a"), column("b")) == Told(
        "quiet", "Inputs look like the reference", "2 columns of 12.3 k rows in 24 h"
    )


def test_drifted_columns_are_named_the_critical_ones_with_the_word() -> None:
    found = told(
        column("distance", State.CRITICAL), column("origin", State.DRIFTED), column("hour")
    )
    assert found.state == "critical"
    assert found.text == "2 of 3 columns drifted: distance (critical), origin"
    many = told(*(column(str(place), State.DRIFTED) for place in range(6)))
    assert many.text == "6 of 6 columns drifted: 0, 1, 2, 3 and 2 more"
    assert many.state == "drifted"


def test_too_few_rows_are_neither_quiet_nor_drifted() -> None:
    found = told(column("a", State.NOT_ENOUGH_DATA), rows=213)
    assert found.state == "not_enough_data"
    assert found.text == "Not enough data: 213 rows in 24 h, 500 needed"


def test_a_window_before_without_rows_is_nothing_to_compare_with() -> None:
    one = cast(Any, column("a", State.NOT_ENOUGH_DATA))
    one.__class__.reference_rows = 0
    found = headline.of_columns([one], 12_300, "24 h", "the window before")
    assert found.text == "Nothing to compare with: the window before has 0 rows, 500 needed"


def test_without_a_column_in_common_nothing_looks_like_the_reference() -> None:
    assert told() == Told(
        "incomparable",
        "No column can be compared with the reference",
        "They have no column in common.",
    )


def test_only_columns_that_were_judged_are_counted() -> None:
    hidden, apart = column("age", State.REDACTED), column("pay", State.INCOMPARABLE)
    few = column("late", State.NOT_ENOUGH_DATA)
    assert told(column("a"), column("b"), hidden, apart, few) == Told(
        "quiet",
        "Those that can be compared look like the reference",
        "2 columns of 12.3 k rows in 24 h; cannot be compared: pay; hidden by the policy: age",
    )
    found = told(column("b", State.DRIFTED), column("a"), hidden, apart, few)
    assert found.text == "1 of 2 columns drifted: b"


def test_dates_are_not_said_to_look_like_the_reference() -> None:
    """They have one bin: whatever they were, they counted among what looks alike."""
    day = column("day", State.INCOMPARABLE, "moment")
    assert told(column("a"), day) == Told(
        "quiet",
        "Inputs look like the reference",
        "1 column of 12.3 k rows in 24 h; dates and times are not compared: day",
    )
    assert told(day).note == "They are dates or times."


def test_what_a_policy_hides_is_not_waited_for() -> None:
    hidden = column("age", State.REDACTED)
    every = Told(
        "redacted",
        "Nothing can be said about drift: the policy hides every column",
        "Their values are kept out of the log (capture.redact).",
    )
    assert told(hidden, hidden) == every
    assert told(hidden, column("pay", State.INCOMPARABLE)) == Told(
        "incomparable",
        "No column can be compared with the reference",
        "cannot be compared: pay; hidden by the policy: age",
    )
    found = told(hidden, column("a", State.NOT_ENOUGH_DATA), rows=213)
    assert found.text == "Not enough data: 213 rows in 24 h, 500 needed"


def test_values_that_are_not_sound_are_told_though_nothing_drifted() -> None:
    found = told(column("dep_delay", missing=Share(0.12, 0.004, State.DRIFTED)))
    assert found.state == "drifted"
    assert found.note == "dep_delay 12 % missing (reference 0.4 %)"


@pytest.mark.parametrize(
    ("last", "usual", "state", "text"),
    [
        (None, None, "idle", "No request yet"),
        (10, 2.0, "serving", "Last request just now, usual gap 2 s"),
        (10_800, 2.0, "late", "Last request 3 h ago, usual gap 2 s"),
        (40, None, "serving", "Last request 40 s ago"),
        (3600, 1800.0, "serving", "Last request 1 h ago, usual gap 30 min"),
    ],
)
def test_freshness(last: int | None, usual: float | None, state: str, text: str) -> None:
    found = headline.freshness(None if last is None else timedelta(seconds=last), usual)
    assert (found.state, found.text) == (state, text)


def test_small_distributions_share_one_scale() -> None:
    mini = minis.of([50, 50], [0, 100])
    assert mini is not None
    assert [(bar.x, bar.y, bar.width, bar.height) for bar in mini.reference] == [
        (4.0, 16.0, 72.0, 16.0), (84.0, 16.0, 72.0, 16.0),
    ]  # fmt: skip
    assert [(bar.x, bar.y, bar.width, bar.height) for bar in mini.window] == [
        (102.0, 0.0, 36.0, 32.0)
    ]
    assert minis.of([0], [0]) is None
    score = minis.of([1] * 100, [0] * 99 + [1])
    assert score is not None
    assert len(score.reference) == 50
