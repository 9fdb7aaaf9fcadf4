"""Who may ask for a validation, and what happens when they ask twice."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.test import Client

from apps.accounts.lifecycle import Role
from apps.accounts.models import User
from apps.audit.models import Event
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.jobs import services as jobs
from apps.jobs.models import Job
from apps.registry.models import Version
from apps.serving.models import Environment
from apps.validation import services
from apps.validation.lifecycle import RunStatus, Verdict
from apps.validation.models import CheckResult, ValidationRun
from tests.builds.cast import make_user, make_version
from tests.people import bearer
from tests.validation.conftest import Judge

SCHEMA = {"gate": "schema_compatible"}


@pytest.fixture
def version(db: None, now: datetime) -> Version:
    return make_version(number=1, now=now)


@pytest.fixture
def staging(db: None) -> Environment:
    return Environment.objects.get_or_create(name="staging", defaults={"order": 1})[0]


@pytest.fixture
def build(version: Version, now: datetime) -> Build:
    return Build.objects.create(
        version=version,
        number=1,
        status=BuildStatus.SUCCEEDED,
        digest="sha256:0",
        signature={"inputs": [{"name": "distance", "type": "double"}]},
        created_at=now,
    )


def test_the_same_question_twice_is_one_run(build: Build, judge: Judge) -> None:
    first = judge.queue(build, SCHEMA)

    assert judge.queue(build, SCHEMA) == first
    assert (ValidationRun.objects.count(), Job.objects.count()) == (1, 1)
    assert Event.objects.filter(verb="validation.started").count() == 1


def test_other_gates_are_refused_while_a_run_is_unfinished(build: Build, judge: Judge) -> None:
    judge.queue(build, SCHEMA)

    with pytest.raises(services.ValidationRefused) as refused:
        judge.queue(build)

    assert refused.value.code == "validation_unfinished"
    assert ValidationRun.objects.count() == 1


def test_a_build_that_did_not_succeed_is_not_judged(build: Build, judge: Judge) -> None:
    Build.objects.update(status=BuildStatus.FAILED)
    build.refresh_from_db()

    with pytest.raises(services.ValidationRefused):
        judge.queue(build, SCHEMA)

    assert ValidationRun.objects.count() == 0


def test_cancelling_a_queued_run_ends_it(build: Build, judge: Judge, now: datetime) -> None:
    run = judge.queue(build, SCHEMA)
    assert run.job is not None

    ada = User.objects.create_user("asker")
    jobs.cancel(job=run.job, actor=ada, now=now)

    run.refresh_from_db()
    assert (run.status, run.verdict) == (RunStatus.CANCELLED, "")
    assert run.reason == "Cancelled by asker"


def test_the_api_lists_and_shows_runs_to_their_team_only(
    build: Build, judge: Judge, client: Client
) -> None:
    run = judge.queue(build, SCHEMA)
    CheckResult.objects.create(
        run=run,
        number=1,
        gate="schema_compatible",
        title="Callers need not change anything",
        verdict=Verdict.PASS,
        summary="All 1 columns are there",
        evidence={"missing": []},
        seconds=0.5,
    )
    viewer = bearer(make_user("vera", "Flights", Role.VIEWER))
    stranger = bearer(make_user("mallory", "Elsewhere", Role.ADMIN))
    path = f"/api/v1/validations/{run.pk}"

    listed = client.get("/api/v1/validations?environment=staging&status=queued", headers=viewer)
    shown = client.get(path, headers=viewer).json()

    assert [row["id"] for row in listed.json()["results"]] == [run.pk]
    assert (shown["model"], shown["version"], shown["environment"]) == (
        "flight-delay",
        1,
        "staging",
    )
    assert (shown["dataset"], shown["compared_with"]) == ("", None)
    assert shown["checks"][0]["evidence"] == {"missing": []}
    assert client.get(path, headers=stranger).status_code == 404
    assert client.get("/api/v1/validations", headers=stranger).json()["results"] == []
    assert client.get(path).status_code == 401
