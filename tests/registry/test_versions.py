"""How a version comes to the panel: by webhook, by sweep, by both at once, and as whose."""

from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest
from django.db import connection

from apps.accounts.lifecycle import Role
from apps.accounts.models import Team, User
from apps.audit.models import Event
from apps.core.errors import Unavailable
from apps.registry import mlflow_link, policy, tasks
from apps.registry.lifecycle import Source
from apps.registry.models import Alias, Model, RunInput, Submission, Version
from apps.registry.services import aliases, missed, versions
from apps.registry.services.versions import NameRefused
from tests.factories.accounts import member
from tests.factories.registry import ModelFactory, TeamFactory, VersionFactory
from tests.registry.conftest import Woken
from tests.registry.tiny_mlflow import TinyMlflow

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def quiet(woken: Woken) -> None:
    """No message goes to the broker."""


@pytest.fixture
def ada() -> User:
    return member(TeamFactory.create(), Role.DATA_SCIENTIST, username="ada")


def register(name: str, number: int, now: datetime) -> Version:
    return versions.register_version(name=name, number=number, seen_by=Source.WEBHOOK, now=now)


def test_what_is_kept_of_a_version(mlflow: TinyMlflow, woken: Woken, now: datetime) -> None:
    mlflow.add("flight-delay", 1, run_id="r1", description="the first")
    mlflow.runs["r1"] = {
        "info": {"run_name": "careful-owl", "experiment_id": "7"},
        "data": {
            "params": [{"key": "C", "value": "0.5"}],
            "metrics": [{"key": "auc", "value": 0.71, "step": 0}],
            "tags": [
                {"key": "mlflow.source.name", "value": "train.py"},
                {"key": "mlflow.source.git.commit", "value": "abc123"},
                {"key": "season", "value": "winter"},
            ],
        },
        "inputs": {
            "dataset_inputs": [
                {
                    "dataset": {"name": "flights", "digest": "d1", "source": "s", "profile": "{}"},
                    "tags": [{"key": "mlflow.data.context", "value": "training"}],
                }
            ]
        },
    }

    version = register("flight-delay", 1, now)

    version.refresh_from_db()
    assert (version.source, version.description, version.run_id) == (
        "models:/m-1",
        "the first",
        "r1",
    )
    assert version.registered_at == datetime(2020, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)
    assert (version.seen_at, version.seen_by, version.registered_by) == (now, "webhook", None)
    assert version.run == {
        "name": "careful-owl",
        "experiment_id": "7",
        "params": {"C": "0.5"},
        "metrics": {"auc": 0.71},
        "tags": {"season": "winter"},
        "commit": "abc123",
        "script": "train.py",
    }
    logged = RunInput.objects.get()
    assert (logged.name, logged.digest, logged.context) == ("flights", "d1", "training")
    assert logged.profile == {"profile": "{}", "schema": ""}
    assert version.model.team.slug == "everyone"
    assert version.model.policies.get().text == policy.DEFAULT_TEXT
    events = [(e.verb, e.actor_name, e.model_name) for e in Event.objects.order_by("pk")]
    assert events == [
        ("model.registered", "portal", "flight-delay"),
        ("version.registered", "portal", "flight-delay"),
    ]
    assert woken == [("builds.sweep",)]
    assert mlflow.tokens == {"Bearer the panel's own"}


def test_a_known_version_stays_as_it_is(mlflow: TinyMlflow, now: datetime) -> None:
    mlflow.add("flight-delay", 1, run_id="r1")
    mlflow.runs["r1"] = {}
    first = register("flight-delay", 1, now)
    mlflow.asked.clear()

    assert register("flight-delay", 1, now) == first
    assert mlflow.asked == [("GET", "/api/2.0/mlflow/model-versions/get")]
    assert Event.objects.filter(verb="version.registered").count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_webhook_and_the_sweep_at_once(mlflow: TinyMlflow, now: datetime) -> None:
    mlflow.add("flight-delay", 1)
    together, seen = Barrier(4, timeout=10), []

    def call() -> None:
        try:
            together.wait()
            seen.append(register("flight-delay", 1, now).pk)
        finally:
            connection.close()

    threads = [Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [Version.objects.get().pk] * 4
    assert Model.objects.count() == 1
    assert Model.objects.get().policies.count() == 1
    assert Event.objects.filter(verb="version.registered").count() == 1
    assert Event.objects.filter(verb="model.registered").count() == 1


@pytest.mark.parametrize("name", ["a b", "a/b", "ü", "-a", ".", "a" * 201, "", "a\n"])
def test_a_name_that_no_address_can_hold(mlflow: TinyMlflow, now: datetime, name: str) -> None:
    mlflow.add(name, 1)

    with pytest.raises(NameRefused, match="cannot stand in an address") as refused:
        register(name, 1, now)

    assert refused.value.code == "model_name_unusable"
    assert mlflow.asked == []
    assert not Model.objects.exists()


def test_mlflow_down_and_version_gone(mlflow: TinyMlflow, now: datetime) -> None:
    with pytest.raises(mlflow_link.NotThere):
        register("flight-delay", 1, now)
    mlflow.add("flight-delay", 1)
    mlflow.failing["/get"] = 503
    with pytest.raises(Unavailable, match=r"The MLflow server failed \(503\)") as down:
        register("flight-delay", 1, now)

    assert down.value.code == "mlflow_unavailable"
    assert not Model.objects.exists()


def test_nobody_listens(settings: object, now: datetime) -> None:
    settings.MLFLOW_URL = "http://127.0.0.1:1"  # type: ignore[attr-defined]

    with pytest.raises(Unavailable, match=r"The MLflow server does not answer \(ConnectError\)"):
        register("flight-delay", 1, now)


def test_the_sweep_finds_what_a_lost_webhook_missed(mlflow: TinyMlflow, now: datetime) -> None:
    mlflow.add("flight-delay", 1)
    register("flight-delay", 1, now)
    mlflow.add("flight-delay", 2)  # its webhook never came
    mlflow.add("late-bags", 1)
    mlflow.add("no address", 1)
    mlflow.add("bread", 1)

    missed.sweep(now=now)

    assert set(Version.objects.values_list("model__name", "number", "seen_by")) == {
        ("flight-delay", 1, "webhook"),
        ("flight-delay", 2, "sweep"),
        ("late-bags", 1, "sweep"),
        ("bread", 1, "sweep"),
    }
    mlflow.asked.clear()
    missed.sweep(now=now)
    assert mlflow.calls("model-versions/search") == 1
    assert Version.objects.count() == 4


def test_the_sweep_leaves_a_slow_webhook_its_time(mlflow: TinyMlflow, now: datetime) -> None:
    mlflow.add("flight-delay", 1, creation_timestamp=int(now.timestamp() * 1000))

    missed.sweep(now=now + timedelta(seconds=3))
    assert not Version.objects.exists()
    missed.sweep(now=now + timedelta(seconds=4))
    assert Version.objects.get().seen_by == "sweep"


def test_the_sweep_looks_at_everything_every_ten_minutes(mlflow: TinyMlflow, now: datetime) -> None:
    model = ModelFactory.create(name="many")
    for number in range(1, 251):
        mlflow.add("many", number)
        if number != 7:  # the one that was overlooked long ago
            created = mlflow_link.moment(mlflow.versions[-1]["creation_timestamp"])
            VersionFactory.create(model=model, number=number, registered_at=created)

    missed.sweep(now=now.replace(minute=1))
    assert model.versions.filter(number=7).count() == 0
    missed.sweep(now=now.replace(minute=10, second=3))
    assert model.versions.filter(number=7).count() == 1
    assert model.versions.count() == 250


def test_the_sweep_keeps_the_webhook(mlflow: TinyMlflow, settings: object, now: datetime) -> None:
    missed.sweep(now=now)
    missed.sweep(now=now)

    hook = mlflow.webhooks[0]
    assert len(mlflow.webhooks) == 1
    assert hook["url"] == settings.PUBLIC_URL + "/webhooks/mlflow"  # type: ignore[attr-defined]
    assert hook["secret"] == settings.MLFLOW_WEBHOOK_SECRET  # type: ignore[attr-defined]
    assert hook["events"] == [{"entity": "MODEL_VERSION", "action": "CREATED"}]

    hook["status"] = "DISABLED"
    missed.sweep(now=now)
    assert [hook["status"] for hook in mlflow.webhooks] == ["DISABLED", "ACTIVE"]


@pytest.mark.parametrize("status", [404, 400, 501, 500])
def test_a_server_without_webhooks_is_swept_all_the_same(
    mlflow: TinyMlflow, now: datetime, status: int
) -> None:
    mlflow.add("flight-delay", 1)
    mlflow.failing["/webhooks"] = status

    missed.sweep(now=now)

    assert Version.objects.get().seen_by == "sweep"


def test_the_tasks_wait_for_mlflow_to_come_back(mlflow: TinyMlflow) -> None:
    mlflow.add("flight-delay", 1)
    mlflow.failing["/get"] = mlflow.failing["/search"] = 500
    tasks.register("flight-delay", 1, "webhook")
    tasks.sweep()
    assert not Version.objects.exists()

    mlflow.failing.clear()
    tasks.sweep()
    assert Version.objects.get().seen_by == "sweep"


def test_a_woken_registration_of_what_is_not_there_ends(mlflow: TinyMlflow) -> None:
    tasks.register("flight-delay", 1, "webhook")
    tasks.register("no address", 1, "webhook")

    assert not Version.objects.exists()


def note(name: str, number: int, user: User, now: datetime) -> None:
    versions.note_submission(name=name, number=number, user=user, now=now)


def test_whose_it_is_when_the_note_comes_first(
    mlflow: TinyMlflow, woken: Woken, ada: User, now: datetime
) -> None:
    mlflow.add("flight-delay", 1)
    note("flight-delay", 1, ada, now)
    assert woken == []  # the webhook or the sweep brings the version itself

    version = register("flight-delay", 1, now)

    assert version.registered_by == ada
    assert version.model.team.slug == "flights"
    assert Event.objects.get(verb="version.registered").actor_name == "ada"


def test_whose_it_is_when_the_version_comes_first(
    mlflow: TinyMlflow, ada: User, now: datetime
) -> None:
    mlflow.add("flight-delay", 1)
    version = register("flight-delay", 1, now)
    note("flight-delay", 1, ada, now)

    version.refresh_from_db()
    assert version.registered_by == ada
    assert Model.objects.get().team.slug == "flights"
    assert Submission.objects.get().user == ada


def test_a_later_sender_does_not_take_the_model_over(
    mlflow: TinyMlflow, ada: User, now: datetime
) -> None:
    mlflow.add("flight-delay", 1)
    register("flight-delay", 1, now)  # nobody knows who sent it
    note("flight-delay", 2, ada, now)

    assert Model.objects.get().team.slug == "everyone"


def test_a_model_of_a_team_stays_with_it(mlflow: TinyMlflow, ada: User, now: datetime) -> None:
    elsewhere: Team = TeamFactory.create(name="Elsewhere", slug="elsewhere")
    ModelFactory.create(name="flight-delay", team=elsewhere)
    mlflow.add("flight-delay", 1)
    note("flight-delay", 1, ada, now)
    version = register("flight-delay", 1, now)

    assert version.model.team == elsewhere
    assert version.registered_by == ada


def test_a_viewer_gives_the_model_to_nobody(mlflow: TinyMlflow, now: datetime) -> None:
    viewer = member(TeamFactory.create(), Role.VIEWER)
    mlflow.add("flight-delay", 1)
    note("flight-delay", 1, viewer, now)

    assert register("flight-delay", 1, now).model.team.slug == "everyone"


def alias_of(model: Model) -> tuple[int, int | None, str]:
    alias = Alias.objects.get(model=model)
    return alias.wanted, alias.seen, alias.error


def test_an_alias_is_wished_and_then_confirmed(
    mlflow: TinyMlflow, woken: Woken, now: datetime
) -> None:
    for number in (1, 2):
        mlflow.add("flight-delay", number)
        register("flight-delay", number, now)
    model = Model.objects.get()
    woken.clear()

    aliases.set_alias(model=model, name="production", number=1, now=now)
    assert alias_of(model) == (1, None, "")
    assert woken == [("registry.sweep",)]
    assert mlflow.aliases == {}

    missed.sweep(now=now)
    assert alias_of(model) == (1, 1, "")
    assert mlflow.aliases == {("flight-delay", "production"): "1"}

    aliases.set_alias(model=model, name="production", number=2, now=now)
    assert alias_of(model) == (2, 1, "")
    missed.sweep(now=now)
    assert alias_of(model) == (2, 2, "")
    mlflow.asked.clear()
    missed.sweep(now=now)
    assert mlflow.calls("registered-models/alias") == 0


def test_an_alias_waits_while_mlflow_is_down(mlflow: TinyMlflow, now: datetime) -> None:
    mlflow.add("flight-delay", 1)
    model = register("flight-delay", 1, now).model
    aliases.set_alias(model=model, name="production", number=1, now=now)
    mlflow.failing["/alias"] = 503
    missed.sweep(now=now)
    assert alias_of(model) == (1, None, "The MLflow server failed (503)")

    mlflow.failing.clear()
    missed.sweep(now=now)
    assert alias_of(model) == (1, 1, "")


@pytest.mark.parametrize("status", [400, 404, 500])
def test_an_alias_that_mlflow_refuses_says_so_and_stops_nothing(
    mlflow: TinyMlflow, now: datetime, status: int
) -> None:
    mlflow.add("flight-delay", 1)
    model = register("flight-delay", 1, now).model
    aliases.set_alias(model=model, name="production", number=1, now=now)
    mlflow.failing["/alias"] = status
    mlflow.add("late-bags", 1)

    missed.sweep(now=now)

    wanted, seen, error = alias_of(model)
    assert (wanted, seen) == (1, None)
    assert error
    assert Model.objects.filter(name="late-bags").exists()
    mlflow.failing.clear()
    missed.sweep(now=now)
    assert alias_of(model) == (1, 1, "")
