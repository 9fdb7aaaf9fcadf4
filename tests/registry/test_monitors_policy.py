"""The part of the policy about monitors: what may be written, and what every endpoint has."""

from typing import Any

import pytest

from apps.registry import policy
from apps.registry.monitors_policy import DEFAULTS, Monitors, Rule, monitors_of
from apps.registry.policy import PolicyRefused

PLACE = "The policy has mistakes. environments.p.monitors"


def document(monitors: str) -> str:
    return f"{{environments: {{p: {{monitors: {{{monitors}}}}}}}}}"


def rule(words: str) -> str:
    return document(f"rules: [{{name: mine, {words}}}]")


def read(text: str) -> Rule:
    kept = policy.parse(text).model_dump(mode="json")
    return monitors_of(kept, "p").rules[0]


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        ("metric: vibes", ".rules.0: there is no metric 'vibes'; there are: drift, missing,"
         " non_finite, unseen, wrong_type, absent_column, out_of_range, errors, rejected,"
         " latency_p50, latency_p95, latency_p99, freshness, traffic, labels, capture_dropped,"
         " saturation, quality:<metric>, estimated:<metric>"),
        ("metric: errors", ".rules.0: errors needs a limit: at_least"),
        ("metric: traffic", ".rules.0: traffic needs a limit: at_least or at_most"),
        ("metric: latency_p95",
         ".rules.0: latency_p95 needs a limit: at_least (ms) or times_previous"),
        ("metric: 'quality:f1'",
         ".rules.0: quality:f1 needs a limit: drop, at_most or at_least"),
        ("metric: errors, at_least: 1, at_most: 2",
         ".rules.0: give one limit: at_least, at_most, times_previous or drop"),
        ("metric: errors, at_most: 1", ".rules.0: errors can only be too high; give `at_least`"),
        ("metric: drift, at_most: 1", ".rules.0: drift can only be too high; give `at_least`"),
        ("metric: errors, times_previous: 2", ".rules.0: `times_previous` is for latency"),
        ("metric: errors, drop: 2", ".rules.0: `drop` is for quality and estimated"),
        ("metric: errors, at_least: 1, columns: [a]",
         ".rules.0: errors has no columns; leave `columns` out"),
        ("metric: errors, at_least: 1, slice: a",
         ".rules.0: errors cannot be told for a slice; leave `slice` out"),
        ("metric: errors, at_least: 1, against: previous",
         ".rules.0: `against: previous` is for drift and data quality"),
        ("metric: drift, window: 59 s",
         ".rules.0.window: Input should be greater than or equal to 60"),
        ("metric: drift, window: 31 d",
         ".rules.0.window: Input should be less than or equal to 2592000"),
        ("metric: drift, window: a day",
         ".rules.0.window: write a window like \"15 min\", \"1 h\" or \"1 d\", or as seconds"),
        ("metric: drift, for: {times: 3, of: 2}",
         ".rules.0.for: `times` must not be more than `of`"),
        ("metric: drift, for_: {times: 1}", ".rules.0.for_: Extra inputs are not permitted"),
        ("metric: drift, at_least: .nan", ".rules.0.at_least: Input should be a finite number"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(words: str, mistake: str) -> None:
    with pytest.raises(PolicyRefused) as refused:
        policy.parse(rule(words))
    assert refused.value.message == PLACE + mistake


def test_two_rules_of_one_name_are_refused() -> None:
    one = "{name: mine, metric: drift}"
    with pytest.raises(PolicyRefused) as refused:
        policy.parse(document(f"rules: [{one}, {one}]"))
    assert refused.value.message == f"{PLACE}: two rules are named mine"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("60", 60), ("15 min", 900), ("15m", 900), ("1 h", 3600), ("1d", 86_400), ("90 s", 90)],
)
def test_a_window_is_written_as_people_say_it(written: str, seconds: int) -> None:
    assert read(rule(f"metric: drift, window: {written}")).window == seconds


def test_a_rule_is_kept_whole() -> None:
    given = read(rule("metric: latency_p95, times_previous: 3, for: {times: 2, of: 4}"))
    assert (given.for_.times, given.for_.of, given.times_previous) == (2, 4, 3)
    assert given.model_dump()["for"] == {"times": 2, "of": 4}
    assert Rule.model_validate(given.model_dump(mode="json")) == given


@pytest.mark.parametrize(
    ("metric", "window", "step"),
    [
        ("drift", "1 d", 300),
        ("drift", "30 d", 3600),
        ("missing", "1 h", 60),
        ("errors, at_least: 0.1", "5 min", 300),
        ("freshness", "7 d", 60),
        ("saturation, at_least: 1", "5 min", 60),
    ],
)
def test_how_far_apart_windows_end(metric: str, window: str, step: int) -> None:
    assert read(rule(f"metric: {metric}, window: {window}")).step_seconds == step


def test_every_endpoint_has_the_defaults() -> None:
    names = ["drift", "missing", "non-finite", "unseen", "wrong-type", "absent-column",
             "out-of-range", "errors", "outage", "latency-p95", "freshness", "quality",
             "telemetry"]  # fmt: skip
    assert [one.name for one in DEFAULTS] == names
    for known in ({}, policy.parse(policy.DEFAULT_TEXT).model_dump(mode="json")):
        assert monitors_of(known, "staging").in_force == DEFAULTS


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"defaults": False}, []),
        ({"defaults": False, "rules": [{"name": "mine", "metric": "drift"}]}, ["mine"]),
        (
            {"rules": [{"name": "drift", "metric": "drift", "window": 3600}]},
            [*(one.name for one in DEFAULTS[1:]), "drift"],
        ),
    ],
)
def test_a_rule_takes_the_place_of_the_default_with_its_name(
    given: dict[str, Any], names: list[str]
) -> None:
    assert [one.name for one in Monitors.model_validate(given).in_force] == names


def test_the_schema_tells_of_it() -> None:
    told = policy.schema()["$defs"]["Rule"]["properties"]
    assert told["for"]["$ref"] == "#/$defs/For"
    assert told["window"]["anyOf"][1] == {
        "type": "string",
        "pattern": r"^\s*\d{1,9}\s*(s|m|min|h|d)\s*$",
    }
