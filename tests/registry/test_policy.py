"""The policy document: what it says when something is wrong, and how editions are counted."""

import re
from datetime import datetime
from typing import Any

import pytest
from django.test import Client

from apps.accounts.lifecycle import Role
from apps.accounts.models import User
from apps.audit.models import Event
from apps.registry import policy, selectors
from apps.registry.models import Model, Policy
from apps.registry.policy import PolicyRefused
from apps.registry.services import policies
from tests.factories.accounts import member
from tests.factories.registry import PolicyFactory
from tests.people import bearer

MISTAKES = "The policy has mistakes. "
LIMIT = "environments.s.gates.0.metric_threshold: give either at_least or at_most"


def gate(words: str) -> str:
    return f"{{holdout: h, environments: {{s: {{gates: [{{{words}}}]}}}}}}"


SMALLER = "environments.s.rollout: each step's share must be larger than the one before"


def quiet(*steps: str) -> str:
    """Steps without weight, unless they name one, and then everything."""
    zero = [step if "weight" in step else f"weight: 0, {step}" for step in steps]
    listed = ", ".join(f"{{{step}}}" for step in [*zero, "weight: 100"])
    return f"{{environments: {{s: {{rollout: {{steps: [{listed}]}}}}}}}}"


def steps(*weights: object) -> str:
    listed = ", ".join(f"{{weight: {weight}}}" for weight in weights)
    return f"{{environments: {{s: {{rollout: {{steps: [{listed}]}}}}}}}}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "The policy must be a mapping with `version` and `environments`"),
        ("- 1", "The policy must be a mapping with `version` and `environments`"),
        (
            "holdout: 2030-13-45",
            "The policy holds a value that YAML cannot read: month must be in 1..12",
        ),
        ("[" * 3000, "The policy is nested too deeply"),
        ("environmens: {}", MISTAKES + "environmens: Extra inputs are not permitted"),
        ("version: 2", MISTAKES + "version: Input should be 1"),
        (
            "version: 2\nholdout: 3",
            MISTAKES + "version: Input should be 1; holdout: Input should be a valid string",
        ),
        (
            '{holdout: "a\\0b"}',
            MISTAKES + "holdout: only characters that can be seen may stand here",
        ),
        (
            '{environments: {"my place": {}}}',
            MISTAKES + "environments.my place.[key]: String should match pattern"
            " '^[A-Za-z0-9_-]{1,60}$'",
        ),
        (
            "{environments: {s: {enter: maybe}}}",
            MISTAKES + "environments.s.enter: Input should be 'automatic' or 'on_request'",
        ),
        (
            "{environments: {production: {after: stagign}}}",
            MISTAKES + "production: `after` names stagign, which is not among `environments`",
        ),
        (
            "{environments: {s: {replicas: 2}}}",
            MISTAKES + "environments.s.replicas: Extra inputs are not permitted",
        ),
        (
            "{environments: {s: {serving: {scaling: {min: 3, max: 2}}}}}",
            MISTAKES + "environments.s.serving.scaling: max must be at least min",
        ),
        (
            "{environments: {s: {serving: {capture: {share: 0.0000001}}}}}",
            MISTAKES + "environments.s.serving.capture.share: must be 0 or at least 0.000001",
        ),
        (gate("gate: metric_threshold, metric: roc_auc"), MISTAKES + LIMIT),
        (
            gate("gate: metric_threshold, metric: roc_auc, at_least: 0, at_most: 1"),
            MISTAKES + LIMIT,
        ),
        (
            gate("gate: metric_threshold, metric: roc_auc, at_least: .nan"),
            MISTAKES + "environments.s.gates.0.metric_threshold.at_least:"
            " Input should be a finite number",
        ),
        (
            gate("gate: metric_threshold, metric: auc, at_least: 1"),
            MISTAKES + "environments.s.gates.0.metric_threshold.metric: Input should be 'roc_auc',"
            " 'accuracy', 'f1', 'precision', 'recall', 'average_precision', 'r2', 'log_loss',"
            " 'brier', 'mae' or 'rmse'",
        ),
        (
            gate("gate: vibes"),
            MISTAKES + "environments.s.gates.0: Input tag 'vibes' found using 'gate' does not"
            " match any of the expected tags: 'metric_threshold', 'metric_comparison',"
            " 'schema_compatible'",
        ),
        (
            gate("metric: roc_auc"),
            MISTAKES + "environments.s.gates.0: Unable to extract tag using discriminator 'gate'",
        ),
        (
            gate("gate: metric_comparison, metric: mae, tolerance: -1"),
            MISTAKES + "environments.s.gates.0.metric_comparison.tolerance: Input should be"
            " greater than or equal to 0",
        ),
        (
            "{environments: {s: {gates: [{gate: metric_comparison, metric: mae}]}}}",
            MISTAKES + "s: gate metric_comparison needs `holdout`, the data set to judge on",
        ),
        (
            "{environments: {s: {approvals: {required: 6, expires_after_hours: 0}}}}",
            MISTAKES + "environments.s.approvals.required: Input should be less than or equal to 5;"
            " environments.s.approvals.expires_after_hours: Input should be greater than 0",
        ),
        (
            steps(),
            MISTAKES + "environments.s.rollout.steps: List should have at least 1 item after"
            " validation, not 0",
        ),
        (
            steps(50, 10, 100),
            MISTAKES + SMALLER,
        ),
        (
            steps(10.01, 10.04, 100),  # both are 100 thousandths
            MISTAKES + SMALLER,
        ),
        (
            quiet("shadow: 50", "shadow: 20"),
            MISTAKES + SMALLER,
        ),
        (
            quiet("shadow: 50", "analysis: false"),  # the dark comes before the shadow
            MISTAKES + SMALLER,
        ),
        (
            quiet("shadow: 101"),
            MISTAKES + "environments.s.rollout.steps.0.shadow: Input should be less than or equal"
            " to 100",
        ),
        (
            quiet("weight: 10, shadow: 50"),
            MISTAKES + "environments.s.rollout.steps.0: a step has a weight or a shadow share;"
            " shadow steps have weight 0",
        ),
        (
            quiet("hold_seconds: 60"),
            MISTAKES + "environments.s.rollout.steps.0: at weight 0 nothing is asked: give it a"
            " shadow share, or no analysis",
        ),
        (
            steps(10, 50),
            MISTAKES + "environments.s.rollout: the last step must carry 100 percent",
        ),
        (
            steps(0.04, 101),
            MISTAKES + "environments.s.rollout.steps.0: weights are counted in tenths of a percent;"
            " environments.s.rollout.steps.1.weight: Input should be less than or equal to 100",
        ),
        (
            "{environments: {s: {rollout: {tolerances: {alpha: 0.5, latency_ratio: .inf}}}}}",
            MISTAKES + "environments.s.rollout.tolerances.latency_ratio: Input should be a finite"
            " number; environments.s.rollout.tolerances.alpha: Input should be less than 0.5",
        ),
    ],
)
def test_what_is_refused_and_how(text: str, words: str) -> None:
    with pytest.raises(PolicyRefused) as refused:
        policy.parse(text)

    assert (refused.value.code, refused.value.message) == ("policy_invalid", words)


@pytest.mark.parametrize(
    "text", ["a: [", "{a: b", "version: 1\n\tenvironments: {}", "!!python/object:os.system {}"]
)
def test_what_is_not_yaml(text: str) -> None:
    with pytest.raises(PolicyRefused, match=r"(?s)^The policy is not valid YAML: .*line \d"):
        policy.parse(text)


@pytest.mark.parametrize("name", ["a\\0b", "\\ud800", ""])
def test_an_environment_that_cannot_be_written_down(name: str) -> None:
    with pytest.raises(PolicyRefused, match=r"String should match|valid string") as refused:
        policy.parse(f'{{environments: {{"{name}": {{}}}}}}')

    assert refused.value.message.isprintable()


def test_it_is_completed_with_defaults() -> None:
    document = policy.parse("version: 1\nenvironments: {staging: {enter: automatic}}\n")

    assert document.model_dump(mode="json") == {
        "version": 1,
        "holdout": None,
        "positive_class": None,
        "environments": {
            "staging": {
                "enter": "automatic",
                "after": None,
                "gates": [],
                "approvals": {
                    "required": 1,
                    "requester_may_approve": False,
                    "expires_after_hours": 168.0,
                },
                "rollout": {
                    "steps": [
                        {"weight": weight, "shadow": 0.0, "hold_seconds": 300.0, "analysis": True}
                        for weight in (10.0, 50.0, 100.0)
                    ],
                    "tolerances": {
                        "min_requests": 100,
                        "error_rate_difference": 0.005,
                        "latency_ratio": 1.5,
                        "alpha": 0.01,
                    },
                    "prepare_timeout_seconds": 300.0,
                },
                "serving": {
                    "scaling": {
                        "min": 1,
                        "max": 1,
                        "in_flight_per_replica": 4.0,
                        "down_after_seconds": 300.0,
                        "idle_seconds": 600.0,
                        "scheduled": [],
                    },
                    "resources": {"memory_mb": 4096, "workers": 1, "processors": None},
                    "limits": {"request_seconds": 30.0, "try_seconds": 10.0, "body_mb": 16.0},
                    "batching": None,
                    "capture": {
                        "share": 1.0,
                        "redact": [],
                        "keep_days": None,
                        "keep_gb": None,
                    },
                    "sticky_cookie": False,
                },
                "monitors": {"defaults": True, "rules": []},
            }
        },
    }


def test_the_first_policy_of_every_model_is_right() -> None:
    document = policy.parse(policy.DEFAULT_TEXT)

    assert list(document.environments) == ["staging", "production"]
    assert document.environments["staging"].approvals.required == 0
    assert document.environments["production"].after == "staging"


def test_the_schema_names_every_key() -> None:
    schema = policy.schema()

    assert set(schema["properties"]) == {"version", "holdout", "positive_class", "environments"}
    assert schema["additionalProperties"] is False


def test_a_plan_keeps_its_weights_in_thousandths() -> None:
    document = policy.parse(steps(0.1, 33.3, 100))

    kept = policy.frozen_plan(document.environments["s"])["steps"]
    assert [step["weight_permille"] for step in kept] == [1, 333, 1000]
    assert [step["shadow_permille"] for step in kept] == [0, 0, 0]


def test_a_plan_may_begin_where_callers_notice_nothing() -> None:
    document = policy.parse(quiet("analysis: false", "shadow: 12.5", "shadow: 100"))

    kept = policy.frozen_plan(document.environments["s"])["steps"]
    assert [(step["weight_permille"], step["shadow_permille"]) for step in kept] == [
        (0, 0), (0, 125), (0, 1000), (1000, 0),
    ]  # fmt: skip


@pytest.fixture
def model(db: None) -> Model:
    return PolicyFactory.create(model__name="flight-delay").model


@pytest.fixture
def admin(model: Model) -> User:
    return member(model.team, Role.ADMIN, username="dora")


def test_editions_are_numbered_and_the_newest_is_in_force(
    model: Model, admin: User, now: datetime
) -> None:
    text = "version: 1  # ours\nenvironments: {staging: {serving: {scaling: {max: 2}}}}\n"

    edition = policies.put_policy(model=model, text=text, actor=admin, now=now)

    assert (edition.number, edition.text, edition.author) == (2, text, admin)
    assert selectors.policy_of(model) == edition
    assert selectors.document_of(model).environments["staging"].serving.scaling.max == 2
    event = Event.objects.get()
    assert (event.verb, event.actor_name, event.model_name, event.team_id) == (
        "policy.changed",
        "dora",
        "flight-delay",
        model.team_id,
    )
    assert (event.evidence["number"], event.evidence["document"]) == (2, edition.document)
    assert policies.put_policy(model=model, text=text, actor=admin, now=now).number == 3


def test_a_refused_one_changes_nothing(model: Model, admin: User, now: datetime) -> None:
    with pytest.raises(PolicyRefused):
        policies.put_policy(model=model, text="version: 2", actor=admin, now=now)

    assert [p.number for p in Policy.objects.all()] == [1]
    assert not Event.objects.exists()


def put(client: Client, user: User, body: Any, kind: str = "application/yaml") -> Any:
    return client.put(
        "/api/v1/models/flight-delay/policy", body, content_type=kind, headers=bearer(user)
    )


def test_the_api_takes_yaml_and_json(client: Client, model: Model, admin: User) -> None:
    by_yaml = put(client, admin, "version: 1\n")
    by_json = put(client, admin, {"text": "version: 1\nholdout: h\n"}, "application/json")

    assert (by_yaml.status_code, by_yaml.json()["number"]) == (200, 2)
    assert (by_json.status_code, by_json.json()["number"]) == (200, 3)
    assert by_json.json()["author"] == "dora"
    assert by_json.json()["text"] == "version: 1\nholdout: h\n"
    assert by_json.json()["document"]["holdout"] == "h"


def test_the_api_says_what_is_wrong(client: Client, model: Model, admin: User) -> None:
    answer = put(client, admin, "version: 2\n")

    assert answer.status_code == 409
    assert answer.json() == {
        "code": "policy_invalid",
        "message": MISTAKES + "version: Input should be 1",
        "detail": None,
    }
    assert put(client, admin, b"").status_code == 400
    assert put(client, admin, b"\xff\xfe\x00").status_code in (400, 409)
    assert Policy.objects.count() == 1


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
def test_only_an_admin_of_the_team_edits_it(client: Client, model: Model, role: Role) -> None:
    answer = put(client, member(model.team, role), "version: 1\n")

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert re.search(r"\(policy\.edit\)", answer.json()["message"])
    assert Policy.objects.count() == 1
