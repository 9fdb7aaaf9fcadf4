"""Who may start a build, and when."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.test import Client

from apps.accounts.lifecycle import Role
from apps.accounts.models import User
from apps.audit.models import Event
from apps.builds import services
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.jobs import services as jobs
from apps.jobs.models import Job
from apps.registry.models import Version
from tests.builds.cast import make_user, make_version
from tests.people import bearer


@pytest.fixture
def version(db: None, now: datetime) -> Version:
    return make_version(number=1, now=now)


def test_a_start_queues_one_job_and_says_who(version: Version, now: datetime) -> None:
    dana = version.registered_by

    build = services.start(version=version, actor=dana, now=now)

    assert (build.number, build.status) == (1, BuildStatus.QUEUED)
    assert build.job is not None
    assert (build.job.kind, build.job.subject_id) == ("builds", build.pk)
    assert build.job.owning_team_id == version.owning_team_id
    event = Event.objects.get(verb="build.started")
    assert (event.actor, event.model_name) == (dana, "flight-delay")


def test_a_second_build_is_refused_while_one_is_unfinished(version: Version, now: datetime) -> None:
    services.start(version=version, actor=None, now=now)

    with pytest.raises(services.BuildRefused) as refused:
        services.start(version=version, actor=None, now=now)

    assert refused.value.code == "build_unfinished"
    assert (Build.objects.count(), Job.objects.count(), Event.objects.count()) == (1, 1, 1)


def test_a_version_that_is_gone_is_not_built(version: Version, now: datetime) -> None:
    Version.objects.update(gone_at=now)

    with pytest.raises(services.BuildRefused) as refused:
        services.start(version=version, actor=None, now=now)
    services.sweep(now=now)

    assert refused.value.code == "version_gone"
    assert Build.objects.count() == 0


def test_the_sweep_queues_the_first_build_of_each_version_and_no_other(
    version: Version, now: datetime
) -> None:
    other = make_version(number=2, now=now)

    services.sweep(now=now)
    services.sweep(now=now)

    assert list(Build.objects.order_by("version").values_list("version", "number")) == [
        (version.pk, 1),
        (other.pk, 1),
    ]


def test_cancelling_a_queued_build_ends_it(version: Version, now: datetime) -> None:
    build = services.start(version=version, actor=None, now=now)
    assert build.job is not None

    ada = User.objects.create_user("asker")
    jobs.cancel(job=build.job, actor=ada, now=now)

    build.refresh_from_db()
    assert (build.status, build.reason) == (BuildStatus.CANCELLED, "Cancelled by asker")
    assert build.failure == ""
    assert list(Event.objects.order_by("pk").values_list("verb", flat=True)) == [
        "build.started",
        "build.cancelled",
        "job.cancelled",
    ]


def test_the_api_starts_lists_and_shows_builds(
    version: Version, now: datetime, client: Client
) -> None:
    assert version.registered_by is not None
    headers = bearer(version.registered_by)
    path = "/api/v1/models/flight-delay/versions/1/builds"

    started = client.post(path, headers=headers)

    assert started.status_code == 201
    assert (started.json()["number"], started.json()["status"]) == (1, "queued")
    listed = client.get("/api/v1/builds?model=flight-delay&status=queued", headers=headers)
    assert [row["id"] for row in listed.json()["results"]] == [started.json()["id"]]
    assert client.get("/api/v1/builds?status=failed", headers=headers).json()["results"] == []
    shown = client.get(f"/api/v1/builds/{started.json()['id']}", headers=headers).json()
    assert (shown["model"], shown["version"], shown["lock"]) == ("flight-delay", 1, "")
    again = client.post(path, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "build_unfinished")
    assert Build.objects.count() == 1


def test_the_api_hides_builds_from_strangers_and_lets_viewers_only_look(
    version: Version, now: datetime, client: Client
) -> None:
    build = services.start(version=version, actor=None, now=now)
    Build.objects.update(status=BuildStatus.SUCCEEDED)
    stranger = bearer(make_user("mallory", "Elsewhere", Role.ADMIN))
    viewer = bearer(make_user("vera", "Flights", Role.VIEWER))
    post = "/api/v1/models/flight-delay/versions/1/builds"

    assert client.get(f"/api/v1/builds/{build.pk}", headers=stranger).status_code == 404
    assert client.get("/api/v1/builds", headers=stranger).json()["results"] == []
    assert client.post(post, headers=stranger).status_code == 404
    assert client.get(f"/api/v1/builds/{build.pk}", headers=viewer).status_code == 200
    assert client.post(post, headers=viewer).status_code == 403
    assert client.get("/api/v1/builds").status_code == 401
    assert Build.objects.count() == 1
