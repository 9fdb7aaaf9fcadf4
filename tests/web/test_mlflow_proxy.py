"""/mlflow: who gets through, with what in their hands, and what MLflow then sees of them."""

import hashlib
import json
from typing import Any

import pytest

from apps.accounts.lifecycle import Role, Scope
from apps.accounts.models import Team, User
from apps.registry.models import Submission
from tests.factories.accounts import UserFactory, member
from tests.factories.registry import ModelFactory, TeamFactory
from tests.people import bearer
from tests.web.asking import ask, session
from tests.web.upstream import LARGE, Upstream

pytestmark = pytest.mark.django_db
API = "/mlflow/api/2.0/mlflow"


@pytest.mark.parametrize("path", ["/", "/models", "/mlflowers", "/api/v1/models"])
def test_everything_else_goes_to_the_panel(path: str) -> None:
    assert ask("GET", path).status == 299


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer portal_wrong"},
        {"authorization": "Basic YWRhOmFkYQ=="},
        {"cookie": "sessionid=guessed"},
        {"cookie": ""},
    ],
)
def test_nobody_is_asked_who_they_are(upstream: Upstream, headers: dict[str, str]) -> None:
    answer = ask("GET", f"{API}/experiments/search", headers)

    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json == {
        "error_code": "NOT_AUTHENTICATED",
        "message": "Sign in, or send a portal token",
    }
    assert upstream.calls == []


def test_a_token_gets_through_and_stays_outside(upstream: Upstream, ada: User) -> None:
    given = bearer(ada, Scope.MLFLOW) | session(ada) | {"x-mlflow-client": "3", "te": "trailers"}
    answer = ask("GET", f"{API}/runs/get", given, query=b"run_id=a%20b&x=1")

    call = upstream.calls[0]
    assert (answer.status, answer.headers["x-upstream"]) == (200, "yes")
    assert (call.method, call.path) == ("GET", f"{API}/runs/get?run_id=a%20b&x=1")
    assert call.headers["authorization"] == "Bearer the panel's own"
    assert call.headers["x-mlflow-client"] == "3"
    assert call.headers["host"] == upstream.url.removeprefix("http://")
    assert not {"cookie", "te", "origin", "referer"} & set(call.headers)
    key = given["Authorization"].partition(" ")[2]
    assert key not in str(call.headers)


def test_a_session_gets_through(upstream: Upstream, vera: User) -> None:
    assert ask("GET", "/mlflow", session(vera)).status == 200
    vera.is_active = False
    vera.save()
    assert ask("GET", "/mlflow", session(vera)).status == 401
    assert len(upstream.calls) == 1


def test_a_server_that_is_not_ours_has_no_prefix(
    upstream: Upstream, ada: User, settings: Any
) -> None:
    settings.MLFLOW_EMBEDDED = False
    settings.MLFLOW_TOKEN = ""
    for path, seen in (("/mlflow", "/"), (f"{API}/runs/get", "/api/2.0/mlflow/runs/get")):
        ask("GET", path, bearer(ada))
        assert upstream.calls[-1].path == seen
        assert "authorization" not in upstream.calls[-1].headers


WRITES = [
    ("POST", f"{API}/registered-models/create"),
    ("POST", f"{API}/model-versions/create"),
    ("PATCH", f"{API}/registered-models/update"),
    ("DELETE", f"{API}/registered-models/delete"),
    ("POST", f"{API}/runs/create"),
    ("PUT", "/mlflow/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/model.pkl"),
    ("PUT", "/mlflow/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/search"),
    ("POST", "/mlflow/api/2.0/mlflow-artifacts/mpu/create/1/r/artifacts/search"),
    ("DELETE", f"{API}/logged-models/search"),
    ("POST", "/mlflow/v1/traces"),
    ("POST", "/mlflow/ajax-api/2.0/mlflow/registered-models/create"),
]
READS = [
    ("GET", f"{API}/registered-models/get"),
    ("HEAD", "/mlflow/"),
    ("POST", f"{API}/experiments/search"),
    ("POST", f"{API}/runs/search"),
    ("POST", f"{API}/registered-models/get-latest-versions"),
    ("POST", "/mlflow/ajax-api/3.0/mlflow/traces/search"),
    ("GET", "/mlflow/ajax-api/2.0/mlflow/metrics/get-history-bulk"),
    ("POST", "/mlflow/graphql"),
]


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_viewer_cannot_write(upstream: Upstream, vera: User, method: str, path: str) -> None:
    answer = ask(method, path, bearer(vera))

    assert (answer.status, answer.json["error_code"]) == (403, "FORBIDDEN")
    assert (
        answer.json["message"] == "Writing to the registry needs the role data scientist in a team"
    )
    assert upstream.calls == []


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_data_scientist_can(upstream: Upstream, ada: User, method: str, path: str) -> None:
    assert ask(method, path, bearer(ada)).status == 200
    assert [(call.method, call.path) for call in upstream.calls] == [(method, path)]


@pytest.mark.parametrize(("method", "path"), [row for row in READS if row[0] != "HEAD"])
def test_a_viewer_can_read(upstream: Upstream, vera: User, method: str, path: str) -> None:
    assert ask(method, path, bearer(vera)).status == 200


def test_somebody_without_a_role_or_scope(upstream: Upstream, ada: User) -> None:
    nobody = UserFactory.create()
    for headers in (bearer(nobody), session(nobody), bearer(ada, Scope.READ, Scope.WRITE)):
        answer = ask("GET", f"{API}/runs/get", headers)
        assert (answer.status, answer.json["message"]) == (
            403,
            "You have no role in any team; ask an admin",
        )
    assert upstream.calls == []


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(
    ("path", "raw"),
    [
        (f"{API}/registered-models/alias", ""),
        (f"{API}/registered-models/alias", f"{API}/registered-models/%61lias"),
        (f"{API}/registered-models/alias", f"{API}/registered-models%2Falias"),
        ("/mlflow/ajax-api/2.0/mlflow/registered-models/alias", ""),
    ],
)
def test_aliases_are_the_panels(
    upstream: Upstream, team: Team, method: str, path: str, raw: str
) -> None:
    admin = member(team, *Role)
    answer = ask(method, path, bearer(admin), raw_path=raw)

    assert (answer.status, answer.json["message"]) == (
        403,
        "The panel keeps the aliases: promote the version instead",
    )
    assert upstream.calls == []
    assert ask("GET", f"{API}/registered-models/alias", bearer(admin)).status == 200


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        (f"{API}/registered-models/alias/.", ""),
        (f"{API}/registered-models/alias/x/..", ""),
        (f"{API}/registered-models/alias/.", f"{API}/registered-models/alias/%2e"),
        (f"{API}/registered-models/alias/", ""),
        (f"{API}//registered-models/alias", ""),
        (f"{API}/registered-models/alias/%2e", f"{API}/registered-models/alias/%252e"),
        (f"{API}/registered-models/alias?x", f"{API}/registered-models/alias%3fx"),
        ("/mlflow/../health", ""),
    ],
)
def test_no_way_around_by_an_address_that_mlflow_cleans(
    upstream: Upstream, ada: User, path: str, raw: str
) -> None:
    answer = ask("POST", path, bearer(ada), raw_path=raw)

    assert (answer.status, answer.json["message"]) == (
        403,
        "An address may not hold empty segments, . or .., file: or characters like ? and #",
    )
    assert upstream.calls == []


def test_webhooks_are_the_admins_business(upstream: Upstream, team: Team, ada: User) -> None:
    path = f"{API}/webhooks"
    assert ask("POST", path, bearer(ada)).json["message"] == "Webhooks are the admins' business"
    assert upstream.calls == []
    admin = member(team, Role.ADMIN)
    assert ask("POST", path, bearer(admin)).status == 200


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        ({"name": "ours"}, True),
        ({"name": "new"}, True),
        ({"name": "nobodys"}, True),
        ({}, True),
        ({"name": "theirs"}, False),
        (json.dumps({"name": "theirs"}), False),  # encoded twice, as MLflow reads it too
    ],
)
@pytest.mark.parametrize(
    ("method", "action"),
    [("POST", "create"), ("PATCH", "update"), ("POST", "set-tag"), ("DELETE", "delete")],
)
def test_another_teams_model_is_not_written_to(
    upstream: Upstream, team: Team, ada: User, body: Any, allowed: bool, method: str, action: str
) -> None:
    ModelFactory.create(name="ours", team=team)
    ModelFactory.create(name="theirs", team=TeamFactory.create(name="Elsewhere", slug="elsewhere"))
    ModelFactory.create(name="nobodys", team=TeamFactory.create(name="Everyone", slug="everyone"))
    sent = json.dumps(body).encode()
    answer = ask(method, f"{API}/model-versions/{action}", bearer(ada), [sent[:5], sent[5:]])

    if allowed:
        assert answer.status == 200
        assert upstream.calls[0].digest == hashlib.sha256(sent).hexdigest()
    else:
        assert (answer.status, answer.json["message"]) == (
            403,
            "The model theirs belongs to the team Elsewhere; you have no right to write to it",
        )
        assert upstream.calls == []


@pytest.mark.parametrize("path", ["registered-models/create", "runs/log-batch"])
@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b"[]", b"7", b" " * 4_000_001, b"[" * 100_000, b'"[]"']
)
def test_what_does_not_say_what_it_is_about(
    upstream: Upstream, ada: User, path: str, body: bytes
) -> None:
    answer = ask("POST", f"{API}/{path}", bearer(ada), [body])

    assert (answer.status, answer.json["message"]) == (
        403,
        "The body is not a JSON object of at most 4 MB",
    )
    assert upstream.calls == []


@pytest.mark.parametrize(("method", "action"), [("GET", "get"), ("POST", "create")])
def test_another_sites_page_is_refused(
    upstream: Upstream, ada: User, method: str, action: str
) -> None:
    path = f"{API}/runs/{action}"
    held = session(ada)
    for origin in ("https://evil.example", "null", "http://panel.example.evil.example"):
        answer = ask(method, path, held | {"origin": origin})
        assert (answer.status, answer.json["error_code"]) == (403, "CROSS_ORIGIN")
    assert upstream.calls == []

    assert ask(method, path, held | {"origin": "https://panel.example"}).status == 200
    assert ask(method, path, held).status == 200
    # A token is no cookie: a page elsewhere that knows one was given it.
    assert ask(method, path, bearer(ada) | {"origin": "https://evil.example"}).status == 200


def created(upstream: Upstream, status: int = 200, **fields: Any) -> None:
    answer = {"model_version": {"name": "flight-delay", "version": "3", **fields}}
    upstream.answers["/model-versions/create"] = (status, answer)


@pytest.mark.parametrize("way", [bearer, session])
def test_what_is_registered_is_noted_as_theirs(upstream: Upstream, ada: User, way: Any) -> None:
    created(upstream)
    body = [json.dumps({"name": "flight-delay", "source": "s"}).encode()]
    answer = ask("POST", f"{API}/model-versions/create", way(ada), body)

    assert answer.json["model_version"]["version"] == "3"
    noted = Submission.objects.get()
    assert (noted.model_name, noted.number, noted.user) == ("flight-delay", 3, ada)


def test_what_was_not_registered_is_not(upstream: Upstream, ada: User) -> None:
    path = f"{API}/model-versions/create"
    created(upstream, status=400)
    assert ask("POST", path, bearer(ada)).status == 400
    upstream.answers["/model-versions/create"] = (200, {"model_version": {}})
    assert ask("POST", path, bearer(ada)).status == 200
    created(upstream)
    tagging = f"{API}/model-versions/set-tag"
    upstream.answers["/set-tag"] = upstream.answers["/model-versions/create"]
    assert ask("POST", tagging, bearer(ada)).status == 200
    assert not Submission.objects.exists()


def test_a_large_file_goes_up_in_pieces(upstream: Upstream, ada: User) -> None:
    path = "/mlflow/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/model.pkl"
    pieces = [bytes([n % 256]) * 65536 for n in range(LARGE // 65536)]
    expected = hashlib.sha256(b"".join(pieces)).hexdigest()

    sized = ask("PUT", path, bearer(ada) | {"content-length": str(LARGE)}, pieces)
    chunked = ask("PUT", path, bearer(ada) | {"transfer-encoding": "chunked"}, pieces)

    assert (sized.status, chunked.status) == (200, 200)
    assert [(call.size, call.digest) for call in upstream.calls] == [(LARGE, expected)] * 2


def test_a_large_file_comes_down_in_pieces(upstream: Upstream, vera: User) -> None:
    answer = ask("GET", "/mlflow/api/2.0/mlflow-artifacts/artifacts/1/r/large", bearer(vera))

    assert (answer.status, answer.headers["content-length"]) == (200, str(LARGE))
    assert len(answer.body) == LARGE
    assert len(answer.pieces) > 10
    assert max(len(piece) for piece in answer.pieces) <= 1024 * 1024


def test_a_get_with_a_body_does_not_hang(upstream: Upstream, vera: User) -> None:
    answer = ask("GET", f"{API}/runs/get", bearer(vera) | {"content-length": "2"})

    assert answer.status == 200
    assert upstream.calls[0].size == 0


def test_mlflow_is_down(ada: User, settings: Any) -> None:
    settings.MLFLOW_URL = "http://127.0.0.1:1"
    answer = ask("GET", f"{API}/runs/get", bearer(ada))

    assert answer.status == 503
    assert answer.json == {
        "error_code": "UNAVAILABLE",
        "message": "The MLflow server does not answer; try again",
    }


@pytest.mark.parametrize("status", [400, 404, 500])
def test_what_mlflow_refuses_is_passed_on(upstream: Upstream, ada: User, status: int) -> None:
    upstream.answers["/runs/get"] = (status, {"error_code": "ITS_OWN", "message": "words"})
    answer = ask("GET", f"{API}/runs/get", bearer(ada))

    assert (answer.status, answer.json["error_code"]) == (status, "ITS_OWN")
