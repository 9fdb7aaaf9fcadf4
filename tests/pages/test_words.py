"""The sentences and figures that pages compute, without a database."""

import pytest

from apps.promotions.changes import between
from apps.registry.standing import Asked, stand
from apps.rollouts.tiles import shown
from apps.validation.evidence import axis, parts
from tests.pages.stage import TILES


def said(**given: object) -> tuple[str, str]:
    facts: dict[str, object] = {
        "is_gone": False,
        "build_status": "succeeded",
        "build_reason": "",
        "environments": ("staging", "production"),
        "serves_in": (),
        "asked": (),
        "may_decide": False,
    }
    standing = stand(**(facts | given))  # type: ignore[arg-type]
    return standing.sentence, standing.next.label if standing.next else ""


def to(environment: str, status: str, **more: object) -> Asked:
    return Asked(environment, status, "why", "/promotions/1", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "sentence", "button"),
    [
        ({"is_gone": True}, "MLflow no longer has this version; it cannot go further.", ""),
        ({"build_status": ""}, "Waiting for its build to be queued.", ""),
        ({"build_status": "running"}, "Its build is running; gates come after it.", ""),
        ({"build_status": "failed"}, "Its build failed; it cannot go further.", "Build again"),
        ({}, "Built. Next is staging.", "Request promotion to staging"),
        ({"asked": [to("staging", "checking")]}, "Its gates for staging run.", "See the promotion"),
        (
            {"asked": [to("production", "waiting")], "may_decide": True},
            "Waiting for approval for production.",
            "Decide",
        ),
        (
            {"asked": [to("production", "approved", rollout_url="/rollouts/1",
                          rollout_phase="progressing", rollout_weight=125)],
             "serves_in": ["staging"]},
            "Rolling out to production: 12.5 % of traffic.",
            "See the rollout",
        ),
        (
            {"serves_in": ["staging"], "asked": [to("staging", "approved", served=True,
                                                    rollout_phase="succeeded")]},
            "Serves in staging. Next is production.",
            "Request promotion to production",
        ),
        (
            {"serves_in": ["staging"], "asked": [to("production", "rejected")]},
            "Its promotion to production was rejected. Serves in staging.",
            "Request promotion to production again",
        ),
        (
            {"serves_in": ["staging"],
             "asked": [to("production", "approved", rollout_phase="reverted")]},
            "Rolled back in production. Serves in staging.",
            "Request promotion to production again",
        ),
        (
            {"serves_in": ["staging", "production"]},
            "Serves in staging and production.",
            "",
        ),
        (
            {"asked": [to("production", "approved", served=True, rollout_phase="succeeded"),
                       to("staging", "approved", served=True, rollout_phase="succeeded")]},
            "Served in production, staging before; another version does now.",
            "Promote to production again",
        ),
    ],
)  # fmt: skip
def test_a_version_says_where_it_stands(
    given: dict[str, object], sentence: str, button: str
) -> None:
    assert said(**given) == (sentence, button)


def test_changes_for_callers_name_the_columns() -> None:
    old = {"inputs": [{"name": "a", "type": "double"}, {"name": "b", "type": "long"}],
           "outputs": [{"type": "double"}]}  # fmt: skip
    new = {
        "inputs": [
            {"name": "a", "type": "string"},
            {"name": "c", "type": "double"},
            {"name": "d", "type": "double", "required": False},
        ],
        "outputs": [{"type": "double"}],
    }
    assert [(c.kind, c.name, c.breaks) for c in between(old, new)] == [
        ("changed", "a", True),
        ("added", "c", True),
        ("added", "d", False),
        ("removed", "b", False),
    ]
    assert between(old, old) == []
    assert between({}, {}) == []


def test_tiles_say_the_difference_in_the_metrics_own_unit() -> None:
    errors, latency = shown({"tiles": TILES})
    assert (errors.name, errors.stable, errors.candidate) == ("Errors", "0.4 %", "4.1 %")
    assert errors.words == "Errors: +3.7 pp, interval +2 pp to +5 pp, tolerance +0.5 pp"
    assert (errors.low, errors.high, errors.value, errors.limit) == (0.02, 0.05, 0.037, 0.005)
    assert latency.difference == "5 % slower"
    assert latency.interval == ""
    assert latency.tolerance == "+50 %"
    assert latency.limit == 0.5
    assert shown({}) == []


def test_tiles_of_nothing_measured_say_so() -> None:
    [tile] = shown({"tiles": [{"metric": "error_rate", "unit": "fraction", "tolerance": 0.005}]})
    assert (tile.stable, tile.candidate) == ("\N{EN DASH}", "\N{EN DASH}")
    assert tile.difference == "not known yet"
    assert tile.value is None


def test_evidence_of_any_form_becomes_facts_and_tables() -> None:
    shown_parts = parts({
        "at_least": 0.65,
        "is_exact": True,
        "missing": [],
        "candidate": {"value": 0.7134},
        "slices": [{"carrier": "AA", "rows": 3}, {"carrier": "UA", "auc": None}],
    })  # fmt: skip
    assert [part.title for part in shown_parts] == ["", "candidate", "slices"]
    assert shown_parts[0].facts == [
        ("at least", "0.65"), ("is exact", "yes"), ("missing", "\N{EN DASH}")
    ]  # fmt: skip
    assert shown_parts[1].facts == [("value", "0.7134")]
    assert shown_parts[2].columns == ["carrier", "rows", "auc"]
    assert shown_parts[2].rows == [["AA", "3", "\N{EN DASH}"], ["UA", "\N{EN DASH}", "\N{EN DASH}"]]
    assert parts({}) == []


@pytest.mark.parametrize(
    ("difference", "worse_by", "limit"),
    [(0.01, -0.01, -0.005), (-0.02, 0.02, -0.005), (0.02, 0.02, 0.005), (-0.02, -0.02, 0.005)],
)
def test_the_border_of_a_comparison_lies_where_worse_is(
    difference: float, worse_by: float, limit: float
) -> None:
    drawn = axis({"difference": difference, "low": -0.03, "high": 0.03, "tolerance": 0.005,
                  "worse_by": worse_by})  # fmt: skip
    assert drawn is not None
    assert drawn.limit == limit
    assert axis({"value": 0.7}) is None
