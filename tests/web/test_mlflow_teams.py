"""/mlflow: what belongs to a model of one team is not touched by another."""

import json
from typing import Any
from unittest import mock

import pytest
from django.utils import timezone

from apps.accounts.lifecycle import Role, Scope
from apps.accounts.models import Team, User
from apps.registry.models import Model, Version
from mlops_portal.mlflow_proxy import MlflowProxy, named, whose
from tests.factories.accounts import give, member
from tests.factories.registry import ModelFactory, TeamFactory, VersionFactory
from tests.people import bearer
from tests.web.asking import Answer, ask
from tests.web.loop import run
from tests.web.upstream import Call, Upstream

pytestmark = pytest.mark.django_db
API = "/mlflow/api/2.0/mlflow"
AJAX = "/mlflow/ajax-api/2.0/mlflow"
FILES = "/mlflow/api/2.0/mlflow-artifacts"
RUN, LOGGED = "0a" * 16, "m-" + "1b" * 16  # of a version of another team
OUR_RUN, OUR_LOGGED = "0c" * 16, "m-" + "1d" * 16
NEW_RUN, NEW_LOGGED = "0e" * 16, "m-" + "1f" * 16  # not registered
NO_WRITE = "The model theirs belongs to the team Elsewhere; you have no right to write to it"
NO_READ = "The model theirs belongs to the team Elsewhere; you have no right to read it"

Row = tuple[str, str, dict[str, Any]]
WRITES: list[Row] = [
    ("POST", f"{API}/runs/delete", {"run_id": "RUN"}),
    ("POST", f"{API}/runs/restore", {"runId": "RUN"}),
    ("POST", f"{API}/runs/update", {"run_uuid": "RUN", "status": "FAILED"}),
    ("POST", f"{AJAX}/runs/set-tag", {"run_id": "RUN", "key": "k", "value": "v"}),
    ("POST", f"{API}/runs/log-metric", {"run_id": "NEW", "key": "k", "model_id": "LOGGED"}),
    ("POST", f"{API}/runs/log-batch", {"run_id": "NEW", "metrics": [{"modelId": "LOGGED"}]}),
    ("POST", f"{API}/runs/log-inputs", {"run_id": "NEW", "models": [{"model_id": "LOGGED"}]}),
    ("POST", f"{API}/runs/outputs", {"run_id": "NEW", "models": [{"model_id": "LOGGED"}]}),
    ("POST", f"{API}/runs/create", {"tags": [{"key": "mlflow.parentRunId", "value": "RUN"}]}),
    ("POST", f"{API}/logged-models", {"experiment_id": "1", "source_run_id": "RUN"}),
    ("POST", f"{API}/logged-models/LOGGED/params", {"params": []}),
    ("PATCH", f"{API}/logged-models/LOGGED", {"status": "LOGGED_MODEL_UPLOAD_FAILED"}),
    ("PATCH", f"{AJAX}/logged-models/LOGGED/tags", {"tags": []}),
    ("DELETE", f"{API}/logged-models/LOGGED", {}),
    ("DELETE", f"{API}/logged-models/LOGGED/tags/a key", {}),
    ("PUT", f"{FILES}/artifacts/1/models/LOGGED/artifacts/model.pkl", {}),
    ("PUT", f"{FILES}/artifacts/1/RUN/artifacts/model/model.pkl", {}),
    ("DELETE", f"{FILES}/artifacts/1/models/LOGGED/artifacts", {}),
    ("DELETE", f"{FILES}/artifacts/1/RUN", {}),
    ("POST", f"{FILES}/mpu/create/1/models/LOGGED/artifacts/model.pkl", {}),
    ("POST", f"{FILES}/mpu/complete/1/RUN/artifacts/model.pkl", {}),
    ("POST", f"{AJAX}/upload-artifact?path=model.pkl&run_uuid=RUN", {}),
    ("POST", f"{API}/artifacts/presigned-upload-url", {"run_id": "RUN", "path": "x"}),
    ("POST", f"{API}/artifacts/presigned-upload-url", {"model_id": "LOGGED", "path": "x"}),
    ("POST", f"{API}/experiments/create", {"artifact_location": "mlflow-artifacts:/1/RUN"}),
    ("POST", f"{API}/traces/link-to-run", {"run_id": "RUN", "trace_ids": ["tr-1"]}),
    ("POST", f"{API}/model-versions/create", {"name": "ours", "source": "models:/LOGGED"}),
    ("POST", f"{API}/model-versions/create", {"name": "ours", "run_id": "RUN"}),
    ("POST", f"{API}/model-versions/create", {"name": "ours", "source": "models:/NAME/1"}),
    ("POST", f"{API}/model-versions/create", {"name": "ours", "source": "Models:/%4eAME@best"}),
    ("POST", f"{API}/registered-models/rename", {"name": "ours", "new_name": "NAME"}),
]
READS: list[Row] = [
    ("GET", f"{API}/runs/get?run_id=RUN", {}),
    ("HEAD", f"{API}/runs/get?run_id=RUN", {}),
    ("GET", f"{API}/metrics/get-history?metric_key=auc&run_uuid=RUN", {}),
    ("GET", f"{AJAX}/metrics/get-history-bulk?run_id=NEW&run_id=RUN&metric_key=auc", {}),
    ("GET", f"{AJAX}/metrics/get-history-bulk-interval?run_ids=RUN&metric_key=auc", {}),
    ("GET", f"{API}/artifacts/list?run_id=RUN", {}),
    ("POST", f"{API}/artifacts/presigned-download-url", {"run_id": "RUN", "path": "x"}),
    ("GET", f"{API}/logged-models/LOGGED", {}),
    ("GET", f"{AJAX}/logged-models/LOGGED/artifacts/files?artifact_file_path=model.pkl", {}),
    ("GET", f"{FILES}/artifacts/1/models/LOGGED/artifacts/model.pkl", {}),
    ("GET", f"{FILES}/artifacts?path=1%2Fmodels%2FLOGGED", {}),
    ("GET", f"{FILES}/presigned/1/RUN/artifacts/model.pkl", {}),
    ("GET", "/mlflow/get-artifact?path=model.pkl&run_uuid=RUN", {}),
    ("GET", "/mlflow/model-versions/get-artifact?path=MLmodel&name=NAME&version=1", {}),
    ("GET", f"{API}/model-versions/get-download-uri?name=NAME&version=1", {}),
    ("GET", f"{API}/registered-models/get?name=ours&name=NAME", {}),
    ("POST", f"{API}/registered-models/get-latest-versions", {"name": "NAME"}),
    ("POST", "/mlflow/graphql", {"query": "query Q", "variables": {"data": {"runId": "RUN"}}}),
    ("POST", "/mlflow/graphql", {"query": '{mlflowGetRun(input:{runId:"RUN"}){run}}'}),
]
OTHER_SPELLINGS = [
    ("PUT", f"{FILES}/artifacts/1/RUN/artifacts/x".replace("RUN", "%30" + RUN[1:])),
    ("PUT", f"{FILES}/artifacts/1%252fRUN%25252fartifacts/x".replace("RUN", RUN)),
    ("PUT", f"{FILES}/artifacts/1/models/LOGGED/x".replace("LOGGED", "M-" + LOGGED[2:].upper())),
    ("POST", f"{AJAX}/upload-artifact?path=x&run_uuid=%25" + "30" + RUN[1:]),
    ("POST", f"{AJAX}/upload-artifact?path=x&run_uuid={RUN[:9]}%0a{RUN[9:]}"),
]


@pytest.fixture
def elsewhere() -> Team:
    return TeamFactory.create(name="Elsewhere", slug="elsewhere")


@pytest.fixture
def theirs(elsewhere: Team) -> Version:
    model = ModelFactory.create(name="theirs", team=elsewhere)
    source = f"mlflow-artifacts:/1/models/{LOGGED}/artifacts"
    return VersionFactory.create(model=model, run_id=RUN, source=source)


@pytest.fixture
def ours(team: Team) -> Version:
    model = ModelFactory.create(name="ours", team=team)
    return VersionFactory.create(model=model, run_id=OUR_RUN, source=f"models:/{OUR_LOGGED}")


def send(row: Row, user: User, run: str, logged: str, name: str) -> Answer:
    method, address, body = row
    words = {"NEW": NEW_RUN, "RUN": run, "LOGGED": logged, "NAME": name}
    words["%4eAME"] = f"%{ord(name[0]):x}{name[1:]}"
    sent = json.dumps(body)
    for word, meaning in words.items():
        address, sent = address.replace(word, meaning), sent.replace(word, meaning)
    path, _, query = address.partition("?")
    headers = bearer(user) | {"x-caller": user.username}
    return ask(method, path, headers, [sent.encode()], query=query.encode())


def forwarded(upstream: Upstream) -> list[Call]:
    """Without the proxy's own questions, which carry no header of the caller's."""
    return [call for call in upstream.calls if "x-caller" in call.headers]


def to_theirs(row: Row, user: User) -> Answer:
    return send(row, user, RUN, LOGGED, "theirs")


@pytest.mark.parametrize("row", WRITES)
def test_another_teams_work_is_not_written_to(
    upstream: Upstream, ada: User, theirs: Version, ours: Version, row: Row
) -> None:
    answer = to_theirs(row, ada)

    assert (answer.status, answer.json["message"]) == (403, NO_WRITE)
    assert forwarded(upstream) == []


@pytest.mark.parametrize("row", WRITES)
def test_ones_own_is_and_what_is_not_registered(
    upstream: Upstream, ada: User, theirs: Version, ours: Version, row: Row
) -> None:
    assert send(row, ada, OUR_RUN, OUR_LOGGED, "ours").status == 200
    assert send(row, ada, NEW_RUN, NEW_LOGGED, "new").status == 200
    assert len(forwarded(upstream)) == 2


@pytest.mark.parametrize("row", [row for row in READS if row[0] != "HEAD"])
def test_another_teams_work_is_not_read(
    upstream: Upstream, ada: User, theirs: Version, ours: Version, row: Row
) -> None:
    answer = to_theirs(row, ada)

    assert (answer.status, answer.json["message"]) == (403, NO_READ)
    assert forwarded(upstream) == []
    assert send(row, ada, OUR_RUN, OUR_LOGGED, "ours").status == 200
    assert send(row, ada, NEW_RUN, NEW_LOGGED, "new").status == 200


def test_who_only_asks_for_the_head_reads(upstream: Upstream, ada: User, theirs: Version) -> None:
    assert to_theirs(("HEAD", f"{API}/runs/get?run_id=RUN", {}), ada).status == 403


def test_a_viewer_of_that_team_reads_and_does_not_write(
    upstream: Upstream, ada: User, theirs: Version, elsewhere: Team
) -> None:
    give(ada, elsewhere, [Role.VIEWER])  # a data scientist in another team all the same
    reading: Row = ("GET", f"{API}/runs/get?run_id=RUN", {})

    assert to_theirs(reading, ada).status == 200
    assert to_theirs(WRITES[0], ada).json["message"] == NO_WRITE
    give(ada, elsewhere, [Role.DATA_SCIENTIST])
    assert to_theirs(WRITES[0], ada).status == 200


def test_a_token_for_mlflow_alone_is_enough(
    upstream: Upstream, ada: User, theirs: Version, ours: Version
) -> None:
    """Training scripts hold such a token; to look at the panel's own pages takes another scope."""
    path, key = f"{API}/runs/get", bearer(ada, Scope.MLFLOW)

    assert ask("GET", path, key, query=f"run_id={OUR_RUN}".encode()).status == 200
    assert ask("GET", path, key, query=f"run_id={RUN}".encode()).json["message"] == NO_READ


@pytest.mark.parametrize(("method", "address"), OTHER_SPELLINGS)
def test_however_it_is_spelled(
    upstream: Upstream, ada: User, theirs: Version, method: str, address: str
) -> None:
    answer = to_theirs((method, address, {}), ada)

    assert (answer.status, answer.json["message"]) == (403, NO_WRITE)
    assert forwarded(upstream) == []


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"run_id": RUN}).replace("0a0a", "\\u0030a0a").encode(),
        json.dumps(json.dumps({"run_id": RUN})).encode(),
        json.dumps({"run_id": RUN}).encode("utf-16"),
        json.dumps({"run_id": RUN.upper()}).encode(),
        json.dumps({"a": {"b": [[{RUN: 1}]]}}).encode(),
    ],
)
def test_however_the_body_is_written(
    upstream: Upstream, ada: User, theirs: Version, body: bytes
) -> None:
    answer = ask("POST", f"{API}/runs/delete", bearer(ada), [body[:7], body[7:]])

    assert (answer.status, answer.json["message"]) == (403, NO_WRITE)
    assert forwarded(upstream) == []


def test_a_query_cannot_spell_an_id_in_escapes(
    upstream: Upstream, ada: User, theirs: Version
) -> None:
    query = READS[-1][2]["query"].replace("RUN", "\\u0030" + RUN[1:])
    answer = ask("POST", "/mlflow/graphql", bearer(ada), [json.dumps({"query": query}).encode()])

    assert answer.status == 403
    assert answer.json["message"].startswith("A query may not hold backslashes")
    assert forwarded(upstream) == []


@pytest.mark.parametrize("names", [[RUN], [RUN, NEW_RUN], [NEW_RUN, RUN]])
def test_traces_are_not_linked_to_another_teams_run(
    upstream: Upstream, ada: User, theirs: Version, names: list[str]
) -> None:
    """The body is no JSON; a header names the run, and the first of two counts."""
    headers = bearer(ada) | {"x-mlflow-experiment-id": "1"}
    for number, name in enumerate(names):
        headers["X-Mlflow-Run-Id" if number else "x-mlflow-run-id"] = name

    answer = ask("POST", "/mlflow/v1/traces", headers, [b"\x0a\x00"])
    assert (answer.status, answer.json["message"]) == (403, NO_WRITE)
    del headers["x-mlflow-run-id"]
    headers["X-Mlflow-Run-Id"] = NEW_RUN
    assert ask("POST", "/mlflow/v1/traces", headers, [b"\x0a\x00"]).status == 200


@pytest.mark.parametrize(
    ("run_id", "source"),
    [
        ("", f"models:/{LOGGED}"),
        (RUN, f"models:/{LOGGED}"),
        (NEW_RUN, f"mlflow-artifacts:/m-1/models/{LOGGED}/artifacts"),
        ("", f"s3://bucket/7/models/{LOGGED}/artifacts"),
    ],
)
def test_a_model_is_known_by_its_source(
    upstream: Upstream, ada: User, elsewhere: Team, run_id: str, source: str
) -> None:
    model = ModelFactory.create(name="theirs", team=elsewhere)
    VersionFactory.create(model=model, run_id=run_id, source=source)

    assert to_theirs(("DELETE", f"{API}/logged-models/LOGGED", {}), ada).status == 403
    assert forwarded(upstream) == []


@pytest.mark.parametrize("source", [f"runs:/{RUN}/model", f"mlflow-artifacts:/1/{RUN}/artifacts"])
def test_a_run_is_known_by_the_source_too(
    upstream: Upstream, ada: User, elsewhere: Team, source: str
) -> None:
    model = ModelFactory.create(name="theirs", team=elsewhere)
    VersionFactory.create(model=model, run_id="", source=source)

    assert to_theirs(WRITES[0], ada).status == 403
    assert forwarded(upstream) == []


def test_what_two_teams_registered_needs_the_right_in_both(
    upstream: Upstream, ada: User, theirs: Version, ours: Version
) -> None:
    VersionFactory.create(model=ours.model, run_id=RUN)

    assert to_theirs(WRITES[0], ada).json["message"] == NO_WRITE


def test_a_version_that_is_gone_stays_theirs(
    upstream: Upstream, ada: User, theirs: Version
) -> None:
    Version.objects.update(gone_at=timezone.now())

    assert to_theirs(WRITES[0], ada).json["message"] == NO_WRITE


def test_what_is_everybodys_is_free(upstream: Upstream, ada: User, theirs: Version) -> None:
    Model.objects.update(team=TeamFactory.create(name="Everyone", slug="everyone"))

    assert to_theirs(WRITES[0], ada).status == 200


def test_a_superuser_may(upstream: Upstream, theirs: Version) -> None:
    root = User.objects.create_superuser("root", "root@example.com", "correct horse battery")

    assert to_theirs(WRITES[0], root).status == 200


@pytest.mark.parametrize("action", ["delete", "update"])
@pytest.mark.parametrize("key", ["experiment_id", "experimentId"])
def test_an_experiment_that_holds_anothers_run(
    upstream: Upstream, ada: User, theirs: Version, ours: Version, action: str, key: str
) -> None:
    """Several teams log into it; none of them ends or renames it for the others."""
    path = f"{API}/experiments/{action}"
    Version.objects.filter(pk=ours.pk).update(run={"experiment_id": "2"})

    answer = ask("POST", path, bearer(ada), [json.dumps({key: "1"}).encode()])
    assert (answer.status, answer.json["message"]) == (403, NO_WRITE)
    assert forwarded(upstream) == []
    assert ask("POST", path, bearer(ada), [json.dumps({key: "2"}).encode()]).status == 200
    tagging = f"{API}/experiments/set-experiment-tag"
    assert ask("POST", tagging, bearer(ada), [json.dumps({key: "1"}).encode()]).status == 200


@pytest.mark.parametrize("folder", ["1", "1/models", "artifacts", "1/models/m-1"])
def test_files_of_many_are_not_deleted_at_once(
    upstream: Upstream, ada: User, theirs: Version, folder: str
) -> None:
    answer = ask("DELETE", f"{FILES}/artifacts/{folder}", bearer(ada))

    assert answer.status == 403
    assert answer.json["message"].startswith("Files are deleted by run or by model")
    assert forwarded(upstream) == []


@pytest.mark.parametrize(
    "folder",
    [
        "file:1/models%3fRUN",  # MLflow cuts off what looks like a query
        "%20FILE:1/models%3bRUN",
        "1/models%3fRUN",
        "1/models%23RUN",
        "RUN/%252e%252e/1",
        "1/models/m-%09LOGGED",
    ],
)
def test_nor_by_an_address_that_mlflow_cleans(
    upstream: Upstream, ada: User, theirs: Version, folder: str
) -> None:
    row: Row = ("DELETE", f"{FILES}/artifacts/{folder}", {})
    answer = send(row, ada, OUR_RUN, OUR_LOGGED, "ours")

    assert answer.status == 403
    assert answer.json["message"].startswith("An address may not hold")
    assert forwarded(upstream) == []


@pytest.mark.parametrize(
    ("method", "address", "body"),
    [
        ("POST", f"{AJAX}/runs/search", {"filter": "run_id IN ('RUN')"}),
        ("GET", f"{AJAX}/model-versions/search?filter=run_id%3D'RUN'", {}),
        ("POST", f"{AJAX}/logged-models/search", {"filter": "source_run_id = 'RUN'"}),
    ],
)
def test_a_search_lists_what_all_teams_have(
    upstream: Upstream, ada: User, theirs: Version, method: str, address: str, body: Any
) -> None:
    """MLflow's page of a shared experiment asks so for the runs that it already shows."""
    assert to_theirs((method, address, body), ada).status == 200


def test_rows_of_an_evaluation_set_are_not_read(upstream: Upstream, ada: User) -> None:
    path = "/mlflow/api/3.0/mlflow/datasets/d-1/records"
    pieces = [b" " * 1_000_000] * 5

    assert ask("POST", path, bearer(ada), pieces).status == 200
    assert upstream.calls[0].size == 5_000_000


@pytest.mark.parametrize(("prefix", "most"), [("", 2_000), ("m-", 100)])
def test_more_ids_than_anybody_means(upstream: Upstream, ada: User, prefix: str, most: int) -> None:
    ids = [f"{prefix}{number:032x}" for number in range(most + 1)]
    for sent, status in ((ids, 403), (ids[1:], 200)):
        body = json.dumps({"run_id": "r", "tags": sent}).encode()
        assert ask("POST", f"{API}/runs/log-batch", bearer(ada), [body]).status == status


def test_one_query_tells_whose_it_is(
    ada: User, theirs: Version, django_assert_num_queries: Any
) -> None:
    scope = {
        "method": "POST",
        "path": f"{API}/runs/log-batch",
        "query_string": b"experiment_id=1",
        "headers": [],
    }
    body = json.dumps({"run_id": NEW_RUN, "metrics": [{"model_id": NEW_LOGGED}] * 50}).encode()
    with django_assert_num_queries(2):  # and whether they have a role at all
        assert whose(ada, "mlflow.write", named(scope, body)) == ""
    with django_assert_num_queries(0):
        assert whose(ada, "mlflow.write", named(scope, b"{}")) == ""


def made_by(upstream: Upstream, run: str) -> None:
    answer = {"model": {"info": {"model_id": NEW_LOGGED, "source_run_id": run}}}
    upstream.answers[f"/logged-models/{NEW_LOGGED}"] = (200, answer)


UPLOAD: Row = ("PUT", f"{FILES}/artifacts/1/models/{NEW_LOGGED}/artifacts/model.pkl", {})


def test_a_model_is_known_by_the_run_that_made_it(
    upstream: Upstream, ada: User, theirs: Version, ours: Version
) -> None:
    """Registered as runs:/…, a version names its run; its files lie with the logged model."""
    Version.objects.filter(pk=theirs.pk).update(source=f"runs:/{RUN}/model")
    made_by(upstream, RUN)
    assert to_theirs(UPLOAD, ada).json["message"] == NO_WRITE
    assert forwarded(upstream) == []
    question = upstream.calls[0]
    assert question.headers["authorization"] == "Bearer the panel's own"

    made_by(upstream, OUR_RUN)
    assert to_theirs(UPLOAD, ada).status == 200
    Version.objects.filter(pk=theirs.pk).update(run_id="")
    made_by(upstream, "")
    assert to_theirs(UPLOAD, ada).status == 200


@pytest.mark.parametrize(("embedded", "prefix"), [(True, "/mlflow"), (False, "")])
def test_mlflow_is_asked_once_for_each_model(
    upstream: Upstream, settings: Any, embedded: bool, prefix: str
) -> None:
    settings.MLFLOW_EMBEDDED = embedded

    async def work() -> list[str]:
        proxy = MlflowProxy(mock.Mock())
        found = [await proxy.maker_of(NEW_LOGGED)]
        made_by(upstream, RUN)
        upstream.answers[f"/logged-models/{OUR_LOGGED}"] = (404, {})
        found += [await proxy.maker_of(name) for name in [NEW_LOGGED, OUR_LOGGED] * 2]
        await proxy.client.aclose()
        return found

    upstream.answers[f"/logged-models/{NEW_LOGGED}"] = (404, {"error_code": "NOT_THERE"})
    assert run(work) == ["", RUN, "", RUN, ""]
    asked = [
        call.path.removeprefix(f"{prefix}/api/2.0/mlflow/logged-models/") for call in upstream.calls
    ]
    assert asked == [NEW_LOGGED, NEW_LOGGED, OUR_LOGGED, OUR_LOGGED]  # what is absent may yet come


def test_mlflow_does_not_say_who_made_a_model(upstream: Upstream, ada: User, settings: Any) -> None:
    upstream.answers[f"/logged-models/{NEW_LOGGED}"] = (500, {})
    assert to_theirs(UPLOAD, ada).status == 503
    settings.MLFLOW_URL = "http://127.0.0.1:1"
    assert to_theirs(UPLOAD, ada).json["error_code"] == "UNAVAILABLE"
    assert forwarded(upstream) == []


def test_who_may_not_write_at_all_hears_that_first(upstream: Upstream, theirs: Version) -> None:
    vera = member(TeamFactory.create(), Role.VIEWER)

    message = to_theirs(WRITES[0], vera).json["message"]
    assert message == "Writing to the registry needs the role data scientist in a team"
