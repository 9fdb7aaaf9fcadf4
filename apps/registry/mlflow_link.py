"""Speaks with the MLflow server by its REST API. Network only: no tables, no decisions.

Not by MLflow's client library: it costs each panel process 200 MB and three seconds, for six calls
whose form MLflow documents. Artifacts are fetched by MLflow's own command, in a process that ends.
"""

import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings

from apps.core import sandbox
from apps.core.errors import Unavailable

log = logging.getLogger(__name__)
API = "/api/2.0/mlflow"
DOWNLOAD_SECONDS = 1800


class NotThere(Exception):
    """MLflow answered that it has no such object."""


class Refusal(Exception):
    """MLflow understood the call and refuses it."""


# What one version, run or alias is odd in keeps every other one out, unless who asks goes on.
ODD_ANSWER = (Refusal, Unavailable, KeyError, ValueError, OverflowError)


def base_url() -> str:
    return settings.MLFLOW_URL + ("/mlflow" if settings.MLFLOW_EMBEDDED else "")


def call(method: str, path: str, /, **payload: Any) -> dict[str, Any]:
    """It makes one call and returns MLflow's answer.

    Raises: NotThere for what MLflow does not have, Unavailable when it does not answer, and
    Refusal for what it does not do.
    """
    headers = {"Authorization": f"Bearer {settings.MLFLOW_TOKEN}"} if settings.MLFLOW_TOKEN else {}
    query = payload if method in ("GET", "DELETE") else None
    body = None if method == "GET" else payload
    try:
        response = httpx.request(
            method, f"{base_url()}{path}", params=query, json=body, headers=headers, timeout=10
        )
    except httpx.TransportError as down:
        raise Unavailable(
            f"The MLflow server does not answer ({type(down).__name__})", "mlflow_unavailable"
        ) from down
    if response.status_code == httpx.codes.NOT_FOUND:
        raise NotThere(f"MLflow has no {payload}")
    if response.status_code == httpx.codes.NOT_IMPLEMENTED:
        raise Refusal(f"The MLflow server does not know {path}")
    if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise Unavailable(
            f"The MLflow server failed ({response.status_code})", "mlflow_unavailable"
        )
    if not response.is_success:
        raise Refusal(f"MLflow refused ({response.status_code}): {response.text[:300]}")
    answer: dict[str, Any] = response.json()
    return answer


def version(name: str, number: int) -> dict[str, Any]:
    answer = call("GET", f"{API}/model-versions/get", name=name, version=str(number))
    found: dict[str, Any] = answer["model_version"]
    return found


def newest_versions(*, everything: bool = False) -> list[dict[str, Any]]:
    """The versions that were registered last, newest first; all of them on request."""
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        answer = call(
            "GET",
            f"{API}/model-versions/search",
            max_results=200,
            order_by="creation_timestamp DESC",
            **({"page_token": token} if token else {}),
        )
        found += answer.get("model_versions", [])
        token = answer.get("next_page_token", "")
        if not token or not everything:
            return found


def run(run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = call("GET", f"{API}/runs/get", run_id=run_id)["run"]
    return found


def set_alias(name: str, alias: str, number: int) -> None:
    call("POST", f"{API}/registered-models/alias", name=name, alias=alias, version=str(number))


def alias(name: str, alias_name: str) -> int | None:
    """Which version the alias names in MLflow; None when there is no such alias."""
    try:
        answer = call("GET", f"{API}/registered-models/alias", name=name, alias=alias_name)
    except (NotThere, Refusal):
        return None
    return int(answer["model_version"]["version"])


def ensure_webhook(url: str, secret: str) -> bool:
    """It makes MLflow call `url` for each new version. True: it was missing and was made."""
    hooks = call("GET", "/api/2.0/mlflow/webhooks").get("webhooks", [])
    if any(hook["url"] == url and hook.get("status", "ACTIVE") == "ACTIVE" for hook in hooks):
        return False
    call(
        "POST",
        "/api/2.0/mlflow/webhooks",
        name="portal",
        url=url,
        events=[{"entity": "MODEL_VERSION", "action": "CREATED"}],
        secret=secret,
        status="ACTIVE",
    )
    return True


def download(name: str, number: int, into: Path, *, tick: Callable[[], None] | None = None) -> None:
    """It fetches the version's artifacts into a directory.

    Raises: Unavailable when the server does not answer, NotThere when the artifacts are gone;
    whatever `tick`, called a few times a second, raises to stop it.
    """
    done = _fetch(f"models:/{name}/{number}", into, tick, DOWNLOAD_SECONDS, None)
    if done.ok and next(into.iterdir(), None) is not None:
        return
    version(name, number)  # raises when the server is down or the version is gone
    if done.killed_why:
        raise Unavailable(f"The artifacts do not arrive. {done.killed_why}")
    raise NotThere(_last_words(f"{name} v{number}", done))


def download_file(
    uri: str,
    into: Path,
    *,
    tick: Callable[[], None] | None = None,
    timeout_seconds: float,
    most_bytes: int,
) -> Path:
    """It fetches one file, by an address such as runs:/<id>/train.parquet, into a directory.

    Raises: Unavailable, NotThere as `download` does; Refusal when it is larger, or no file.
    """
    done = _fetch(uri, into, tick, timeout_seconds, most_bytes)
    files = [path for path in into.rglob("*") if path.is_file() and not path.is_symlink()]
    if done.ok and len(files) == 1:
        return files[0]
    call("GET", f"{API}/experiments/search", max_results=1)  # raises when the server is down
    if done.killed_why:
        raise Refusal(f"The file does not arrive. {done.killed_why}")
    if any(path.stat().st_size >= most_bytes for path in files):
        raise Refusal(f"The file is larger than {most_bytes / 1024**3:g} GiB")
    if done.ok and files:
        raise Refusal("It is a directory, not a file")
    raise NotThere(_last_words(uri, done))


def _fetch(
    uri: str,
    into: Path,
    tick: Callable[[], None] | None,
    timeout_seconds: float,
    file_bytes: int | None,
) -> sandbox.Finished:
    environment = {
        key: os.environ[key]
        for key in ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "AWS_CA_BUNDLE")
        if key in os.environ
    } | {
        key: value
        for key, value in os.environ.items()
        if key.startswith(("AWS_", "AZURE_", "GOOGLE_", "MLFLOW_S3_"))  # the artifact store's own
    }
    environment |= {"MLFLOW_TRACKING_URI": base_url(), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
    if settings.MLFLOW_TOKEN:
        environment["MLFLOW_TRACKING_TOKEN"] = settings.MLFLOW_TOKEN
    command = [sys.executable, "-m", "mlflow", "artifacts", "download"]
    command += ["--artifact-uri", uri, "--dst-path", str(into)]
    return sandbox.run(
        command,
        env=environment,
        limits=sandbox.Limits(memory_bytes=None, file_bytes=file_bytes),
        timeout_seconds=timeout_seconds,
        on_tick=tick,
    )


def _last_words(what: str, done: sandbox.Finished) -> str:
    words = done.output_tail.strip().splitlines()
    log.warning("No artifacts of %s: %s", what, "\n".join(words[-5:]))
    if done.returncode == 0 or not words:  # nothing went wrong, there only was nothing to fetch
        return "its artifact store holds no file for it"
    return words[-1]


def artifacts(run_id: str) -> list[dict[str, Any]]:
    """The files at the top of a run's artifacts: {"path", "is_dir", "file_size"}."""
    found: list[dict[str, Any]] = call("GET", f"{API}/artifacts/list", run_id=run_id).get(
        "files", []
    )
    return found


def artifact_json(run_id: str, path: str) -> Any:
    """It reads a small JSON file of a run."""
    return call("GET", "/get-artifact", run_uuid=run_id, path=path)


def moment(milliseconds: Any) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, tz=UTC)
