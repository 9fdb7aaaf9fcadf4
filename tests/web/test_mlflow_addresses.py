"""/mlflow: which addresses pass, held to every address that the installed MLflow has."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings

from apps.accounts.models import User
from mlops_portal.mlflow_addresses import HEX, Kind, kind_of
from mlops_portal.mlflow_proxy import PREFIX
from tests.people import bearer
from tests.web.asking import ask, session
from tests.web.mlflow_addresses import FORWARDED, OUTSIDE, REFUSED
from tests.web.upstream import Upstream

Address = tuple[str, str]
UNKNOWN = "This address is not forwarded to MLflow"
CROOKED = "An address may not hold empty segments, . or .., file: or characters like ? and #"
ASSISTANT = "/mlflow/ajax-api/3.0/mlflow/assistant/message"


@pytest.fixture(scope="module")
def mlflow() -> Any:
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.web.mlflow_routes"],
        cwd=settings.BASE_DIR,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        timeout=120,
        check=True,
    )
    return json.loads(said.stdout)


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root", "root@example.com", "correct horse battery")


def entered(text: str) -> set[Address]:
    rows = (line.split() for line in text.split("\n") if line.strip())
    return {(method, path) for methods, path in rows for method in methods.split(",")}


def as_entered(method: str, path: str) -> Address:
    """An address as mlflow_addresses.py writes it."""
    path = re.sub(r"<path:\w+>|\{\w+:path\}", "PATH", path.removeprefix(PREFIX))
    path = re.sub(r"<\w+>|\{\w+\}", "ID", path)
    return method, re.sub(r"^/(ajax-)?api/(?=\d)", "", path)


def calls(address: Address) -> list[str]:
    """What a caller may send for it, under each of its names."""
    method, path = address
    path = path.replace("PATH", "1/ab/model.pkl").replace("ID", "tr-1")
    names = [""] if path.startswith("/") else ["/api/", "/ajax-api/"]
    return [f"{method} {name}{path}" for name in names]


ENTERED = {kind: entered(text) for kind, text in FORWARDED.items()}
NEVER = set().union(*(entered(text) for text in REFUSED.values()))


def test_every_address_of_mlflow_is_entered(mlflow: Any) -> None:
    rows = [row for row in mlflow["routes"] if row[0] not in ("HEAD", "OPTIONS")]
    behind = {as_entered(*row) for row in rows if row[1].startswith(PREFIX + "/")}
    outside = {as_entered(*row) for row in rows if not row[1].startswith(PREFIX + "/")}

    assert behind == NEVER.union(*ENTERED.values())
    assert outside == entered(OUTSIDE)
    assert mlflow["mounts"] == [""]  # Flask's, whose routes are among these
    assert sum(map(len, ENTERED.values())) + len(NEVER) == len(behind)


@pytest.mark.parametrize("kind", Kind)
def test_what_passes(kind: Kind) -> None:
    for address in ENTERED[kind]:
        for call in calls(address):
            assert kind_of(call) is kind, call


@pytest.mark.parametrize("why", REFUSED)
def test_what_does_not_pass(why: str) -> None:
    for address in entered(REFUSED[why]):
        for call in calls(address):
            assert kind_of(call) is None, call


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"])
def test_only_the_methods_that_mlflow_has(method: str) -> None:
    for address in set().union(*ENTERED.values()):
        for call in calls((method, address[1])):
            assert kind_of(call) is None, call


def test_a_query_changes_nothing(mlflow: Any) -> None:
    """POST /graphql counts as reading, mutations and all."""
    assert mlflow["mutations"] == ["mlflowSearchDatasets", "mlflowSearchRuns", "testMutation"]


def test_ids_look_as_the_proxy_looks_for_them(mlflow: Any) -> None:
    ids = mlflow["ids"]
    assert re.fullmatch(HEX, ids["run"])
    assert re.fullmatch(f"m-{HEX}", ids["model"])
    assert ids["run_at"] == f"mlflow-artifacts:/0/{ids['run']}/artifacts"
    assert ids["model_at"] == f"mlflow-artifacts:/0/models/{ids['model']}/artifacts"


@pytest.mark.parametrize(
    ("path", "raw", "message"),
    [
        (ASSISTANT, "", UNKNOWN),
        ("/mlflow/api/3.0/mlflow/assistant/message", "", UNKNOWN),
        ("/mlflow/ajax-api/3.0/mlflow/Assistant/message", "", UNKNOWN),
        ("/mlflow/AJAX-API/3.0/mlflow/assistant/message", "", UNKNOWN),
        (ASSISTANT, ASSISTANT.replace("assistant", "%61ssistant"), UNKNOWN),
        (ASSISTANT, ASSISTANT.replace("/assistant/", "%2Fassistant%2F"), UNKNOWN),
        (ASSISTANT.replace("/assistant", "%2Fassistant"), "", UNKNOWN),  # encoded twice
        (ASSISTANT + ";x=1", "", UNKNOWN),
        (ASSISTANT.replace("message", ";/message"), "", UNKNOWN),
        (ASSISTANT + "/", "", CROOKED),
        (ASSISTANT.replace("mlflow/assistant", "mlflow//assistant"), "", CROOKED),
        ("/mlflow//ajax-api/3.0/mlflow/assistant/message", "", CROOKED),
        ("/mlflow/static-files/../ajax-api/3.0/mlflow/assistant/message", "", CROOKED),
        ("/mlflow/static-files/%2e%2e/ajax-api/3.0/mlflow/assistant/message", "", CROOKED),
        ("/mlflow/static-files/..;/ajax-api/3.0/mlflow/assistant/message", "", UNKNOWN),
        ("/mlflow/graphql/" + ASSISTANT, "", CROOKED),
        ("/mlflow/api/2.0/mlflow/runs/create;", "", UNKNOWN),
        ("/mlflow/api/2.0/mlflow/runs/create\n", "", CROOKED),
        ("/mlflow/api/2.0/mlflow/runs/create#", "", CROOKED),
        ("/mlflow/api/2.0/mlflow/logged-models/m-1;x/params", "", UNKNOWN),
        ("/mlflow/api/4.0/mlflow/traces/search", "", UNKNOWN),
        ("/mlflow/api/2.0/mlflow/runs/create-promptlab-run", "", UNKNOWN),
        ("/mlflow/ajax-api/2.0/mlflow/gateway-proxy", "", UNKNOWN),
        ("/mlflow/gateway/proxy/any/v1/chat", "", UNKNOWN),
        ("/mlflow/ajax-api/3.0/jobs/", "", CROOKED),
        ("/mlflow/ajax-api/3.0/jobs/search", "", UNKNOWN),
        ("/mlflow/ajax-api/3.0/mlflow/scorer/invoke", "", UNKNOWN),
        ("/mlflow/api/3.0/mlflow/scorers/register", "", UNKNOWN),
        ("/mlflow/api/3.0/mlflow/prompt-optimization/jobs", "", UNKNOWN),
        ("/mlflow/api/2.0/mlflow/users/create", "", UNKNOWN),
        ("/mlflow/signup", "", UNKNOWN),
        ("/mlflow/openapi.json", "", UNKNOWN),
    ],
)
@pytest.mark.parametrize("way", [bearer, session])
def test_not_even_for_root(
    upstream: Upstream,
    root: User,
    caplog: pytest.LogCaptureFixture,
    way: Any,
    path: str,
    raw: str,
    message: str,
) -> None:
    answer = ask("POST", path, way(root), raw_path=raw or path.replace("%", "%25"))

    assert (answer.status, answer.json) == (403, {"error_code": "FORBIDDEN", "message": message})
    assert upstream.calls == []
    refusals = [r.getMessage() for r in caplog.records if r.name == "mlops_portal.mlflow_proxy"]
    call = "POST " + path.removeprefix(PREFIX)
    assert refusals == (
        [f"Not forwarded to MLflow: {call!r} of root"] if message == UNKNOWN else []
    )


@pytest.mark.parametrize(
    ("path", "raw", "called"),
    [
        ("/runs/create", "/runs/%63reate", "/runs/create"),
        ("/runs/create", "%2Fruns%2Fcreate", "/runs/create"),
        ("/traces/tr-1/tags", "/traces/tr%2D1/tags", "/traces/tr-1/tags"),
    ],
)
def test_what_is_called_is_what_was_checked(
    upstream: Upstream, ada: User, path: str, raw: str, called: str
) -> None:
    api = "/mlflow/api/2.0/mlflow"
    method = "PATCH" if path.endswith("tags") else "POST"

    assert ask(method, api + path, bearer(ada), raw_path=api + raw).status == 200
    assert [call.path for call in upstream.calls] == [api + called]


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("ein Modell.pkl", "ein%20Modell.pkl"),
        ("é+&=,;@$!'()*~.pkl", "%C3%A9+&=,;@$!'()*~.pkl"),
        ("100%.png", "100%25.png"),
    ],
)
def test_a_file_keeps_its_name(upstream: Upstream, ada: User, name: str, sent: str) -> None:
    folder = "/mlflow/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/"

    assert ask("PUT", folder + name, bearer(ada), raw_path=folder + sent).status == 200
    assert upstream.calls[0].path == folder + sent
