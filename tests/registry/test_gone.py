"""What MLflow has no more: it is marked, and its number may come to another version."""

from datetime import datetime
from pathlib import Path
from threading import Barrier, Thread

import pytest
from django.db import connection
from django.test import Client

from apps.accounts.lifecycle import Role
from apps.accounts.models import User
from apps.audit.models import Event
from apps.builds.models import Build
from apps.registry import mlflow_link
from apps.registry.lifecycle import Source
from apps.registry.models import Alias, Model, Submission, Version
from apps.registry.services import aliases, artifacts, missed, versions
from tests.factories.accounts import member
from tests.factories.registry import TeamFactory
from tests.factories.serving import EnvironmentFactory
from tests.people import bearer
from tests.registry.conftest import Woken
from tests.registry.tiny_mlflow import TinyMlflow

pytestmark = pytest.mark.django_db
LATER = 1_600_000_000_000  # milliseconds; TinyMlflow's own are earlier
PAGE = "/models/flight-delay/versions/1"


@pytest.fixture(autouse=True)
def quiet(woken: Woken) -> None:
    """No message goes to the broker."""


@pytest.fixture
def full(now: datetime) -> datetime:
    """When the sweep looks at everything."""
    return now.replace(minute=10, second=3)


@pytest.fixture
def ada() -> User:
    return member(TeamFactory.create(), Role.DATA_SCIENTIST, username="ada")


def register(number: int, now: datetime) -> Version:
    return versions.register_version(
        name="flight-delay", number=number, seen_by=Source.WEBHOOK, now=now
    )


def anew(mlflow: TinyMlflow) -> None:
    """Somebody deletes the model in MLflow and registers another one of its name."""
    mlflow.delete("flight-delay")
    mlflow.add("flight-delay", 1, creation_timestamp=LATER, source="models:/m-another")


@pytest.fixture
def both(mlflow: TinyMlflow, ada: User, now: datetime) -> tuple[Version, Version]:
    """A version that is gone, and the one that has its number now."""
    mlflow.add("flight-delay", 1)
    versions.note_submission(name="flight-delay", number=1, user=ada, now=now)
    old = register(1, now)
    anew(mlflow)
    new = register(1, now)
    old.refresh_from_db()
    return old, new


def test_the_full_look_marks_what_is_gone(
    mlflow: TinyMlflow, now: datetime, full: datetime
) -> None:
    for number in (1, 2):
        mlflow.add("flight-delay", number)
        register(number, now)
    aliases.set_alias(model=Model.objects.get(), name="staging", number=1, now=now)
    aliases.set_alias(model=Model.objects.get(), name="production", number=2, now=now)
    missed.sweep(now=now.replace(minute=1))
    del mlflow.versions[0]

    missed.sweep(now=now.replace(minute=9))
    assert not Version.objects.exclude(gone_at=None).exists()
    missed.sweep(now=full)

    version = Version.objects.exclude(gone_at=None).get()
    assert (version.number, version.gone_at) == (1, full)
    event = Event.objects.get(verb="version.gone")
    assert (event.at, event.actor_name, event.object_id) == (full, "portal", version.pk)
    assert (event.model_name, event.reason) == (
        "flight-delay",
        "MLflow no longer lists flight-delay v1",
    )
    assert event.evidence["source"] == "models:/m-1"
    assert [alias.name for alias in Alias.objects.all()] == ["production"]

    missed.sweep(now=full.replace(minute=20))
    version.refresh_from_db()
    assert version.gone_at == full
    assert Event.objects.filter(verb="version.gone").count() == 1


def test_what_the_list_only_left_out_is_not_gone(
    mlflow: TinyMlflow, now: datetime, full: datetime
) -> None:
    mlflow.add("flight-delay", 1)
    register(1, now)
    mlflow.unlisted.add("flight-delay")

    missed.sweep(now=full)

    assert Version.objects.get().gone_at is None


@pytest.mark.parametrize("status", [403, 500])
def test_one_of_which_mlflow_says_nothing_stops_no_other(
    mlflow: TinyMlflow, now: datetime, full: datetime, status: int
) -> None:
    for number in (1, 2):
        mlflow.add("flight-delay", number)
        register(number, now)
    mlflow.delete("flight-delay")
    mlflow.broken_versions["flight-delay", "2"] = status

    missed.sweep(now=full)

    assert Version.objects.exclude(gone_at=None).get().number == 1


def test_what_comes_back_is_a_row_of_its_own(
    mlflow: TinyMlflow, now: datetime, full: datetime
) -> None:
    mlflow.add("flight-delay", 1)
    old = register(1, now)
    kept, mlflow.versions = mlflow.versions, []
    missed.sweep(now=full)
    mlflow.versions = kept  # from a backup

    missed.sweep(now=full.replace(minute=11))

    old.refresh_from_db()
    assert old.gone_at == full
    assert Version.objects.living().get().registered_at == old.registered_at


@pytest.mark.parametrize("by_webhook", [True, False])
def test_a_number_that_is_given_out_anew(
    mlflow: TinyMlflow, now: datetime, by_webhook: bool
) -> None:
    mlflow.add("flight-delay", 1)
    old = register(1, now)
    aliases.set_alias(model=old.model, name="production", number=1, now=now)
    missed.sweep(now=now.replace(minute=1))
    Version.objects.update(digest="sha256:served")
    anew(mlflow)

    if by_webhook:
        register(1, now)
    else:
        missed.sweep(now=now.replace(minute=2))

    old.refresh_from_db()
    assert old.gone_at is not None
    assert (old.digest, old.source) == ("sha256:served", "models:/m-1")
    new = Version.objects.living().get()
    assert (new.number, new.digest, new.source) == (1, "", "models:/m-another")
    assert new.model == old.model
    events = Event.objects.filter(object_type="version").order_by("pk")
    assert [(e.verb, e.object_id) for e in events] == [
        ("version.registered", old.pk),
        ("version.gone", old.pk),
        ("version.registered", new.pk),
    ]
    assert events[1].reason == "MLflow gave the number of flight-delay v1 to another version"
    # @production named what served; the other version does not.
    assert not Alias.objects.exists()
    missed.sweep(now=now.replace(minute=3))
    assert mlflow.aliases == {}
    assert Version.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_anew_by_webhook_and_sweep_at_once(mlflow: TinyMlflow, now: datetime) -> None:
    mlflow.add("flight-delay", 1)
    register(1, now)
    anew(mlflow)
    together, seen = Barrier(4, timeout=10), []

    def call() -> None:
        try:
            together.wait()
            seen.append(register(1, now).pk)
        finally:
            connection.close()

    threads = [Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [Version.objects.living().get().pk] * 4
    assert Version.objects.count() == 2
    assert Event.objects.filter(verb="version.gone").count() == 1


def test_an_older_answer_replaces_nothing(
    mlflow: TinyMlflow, both: tuple[Version, Version], now: datetime
) -> None:
    _, new = both
    mlflow.delete("flight-delay")
    mlflow.add("flight-delay", 1)  # what was asked before the model was deleted

    assert register(1, now) == new
    assert Version.objects.count() == 2


def test_who_sent_the_first_did_not_send_the_second(
    mlflow: TinyMlflow, ada: User, now: datetime
) -> None:
    created = now.timestamp() * 1000
    mlflow.add("flight-delay", 1)
    early = mlflow_link.moment(mlflow.versions[0]["creation_timestamp"])
    versions.note_submission(name="flight-delay", number=1, user=ada, now=early)
    assert register(1, now).registered_by == ada
    mlflow.delete("flight-delay")
    mlflow.add("flight-delay", 1, creation_timestamp=created)

    new = register(1, now)
    assert new.registered_by_id is None
    ben = member(ada.teams.get(), Role.DATA_SCIENTIST, username="ben")
    versions.note_submission(name="flight-delay", number=1, user=ben, now=now)

    new.refresh_from_db()
    assert new.registered_by == ben
    assert Version.objects.exclude(gone_at=None).get().registered_by == ada
    assert Submission.objects.get().user == ben


def test_a_name_and_a_number_find_the_living_one(
    both: tuple[Version, Version], ada: User, client: Client
) -> None:
    old, new = both
    api = "/api/v1/models/flight-delay/versions"

    assert client.get(f"{api}/1", headers=bearer(ada)).json()["id"] == new.pk
    listed = client.get(api, headers=bearer(ada)).json()["results"]
    assert [(row["id"], row["gone_at"] is None) for row in listed] == [
        (new.pk, True),
        (old.pk, False),
    ]
    built = client.post(f"{api}/1/builds", headers=bearer(ada))
    assert built.status_code == 201
    assert Build.objects.get().version == new
    EnvironmentFactory.create(name="staging")
    asked = {"model": "flight-delay", "version": 1, "environment": "staging"}
    refused = client.post("/api/v1/promotions", asked, "application/json", headers=bearer(ada))
    assert (refused.status_code, refused.json()["code"]) == (409, "not_built")


def test_the_page_of_each(both: tuple[Version, Version], ada: User, client: Client) -> None:
    old, new = both
    client.force_login(ada)

    assert (old.get_absolute_url(), new.get_absolute_url()) == (f"{PAGE}?row={old.pk}", PAGE)
    assert client.get(PAGE).context["version"] == new
    shown = client.get(old.get_absolute_url())
    assert shown.context["version"] == old
    assert "MLflow no longer has this version" in shown.content.decode()
    assert client.get(f"/models/flight-delay/versions/2?row={old.pk}").status_code == 404
    assert client.get(f"{PAGE}?row=x").context["version"] == new
    assert client.get("/models/flight-delay").context["page"].object_list[0] == new
    assert client.get("/models").context["page"].object_list[0].newest == 1


def test_one_that_is_gone_keeps_its_page(
    mlflow: TinyMlflow, ada: User, client: Client, now: datetime, full: datetime
) -> None:
    mlflow.add("flight-delay", 1)
    versions.note_submission(name="flight-delay", number=1, user=ada, now=now)
    old = register(1, now)
    mlflow.delete("flight-delay")
    missed.sweep(now=full)
    client.force_login(ada)

    assert client.get(PAGE).context["version"] == old
    assert client.get("/models").context["page"].object_list[0].newest is None


def test_files_of_another_version_are_not_taken_for_its_own(
    mlflow: TinyMlflow, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.add("flight-delay", 1)
    old = register(1, now)
    monkeypatch.setattr(mlflow_link, "download", lambda name, number, into, tick: None)
    artifacts.download_artifacts(old, tmp_path)
    anew(mlflow)

    with pytest.raises(artifacts.ArtifactGone, match="to another version"):
        artifacts.download_artifacts(old, tmp_path)
