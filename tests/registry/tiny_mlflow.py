"""A small real HTTP server that speaks the part of MLflow's REST API that the panel uses."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 200


class TinyMlflow:
    """It holds what MLflow would hold, and everything that it was asked."""

    def __init__(self) -> None:
        self.versions: list[dict[str, Any]] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}  # run -> path -> what the JSON file holds
        self.aliases: dict[tuple[str, str], str] = {}
        self.webhooks: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str] = set()
        self.failing: dict[str, int] = {}  # end of a path -> the status it answers
        self.broken_runs: dict[str, int] = {}  # run -> the status it answers
        self.broken_versions: dict[tuple[str, str], int] = {}
        self.unlisted: set[str] = set()  # models that a search leaves out
        self.url = ""

    def add(self, name: str, number: int, **fields: Any) -> dict[str, Any]:
        version = {
            "name": name,
            "version": str(number),
            "creation_timestamp": 1_577_836_800_000 + number,
            "source": f"models:/m-{number}",
            "status": "READY",
            **fields,
        }
        self.versions.append(version)
        return version

    def delete(self, name: str) -> None:
        """As MLflow does: the next version of this name gets the number 1."""
        self.versions = [v for v in self.versions if v["name"] != name]
        self.aliases = {key: n for key, n in self.aliases.items() if key[0] != name}

    def calls(self, end: str) -> int:
        return sum(path.endswith(end) for _, path in self.asked)

    def answer(self, method: str, path: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = path.removeprefix("/api/2.0/mlflow/").removeprefix("/")
        for end, status in self.failing.items():
            if path.endswith(end):
                return status, {"error_code": "OUT_OF_ORDER"}
        broken = self.broken_runs.get(given.get("run_id", "")) or self.broken_versions.get(
            (given.get("name", ""), given.get("version", ""))
        )
        if broken:
            return broken, {"error_code": "OUT_OF_ORDER"}
        route = getattr(self, f"_{method}_{name}".lower().replace("/", "_").replace("-", "_"), None)
        found = route(given) if route else None
        if found is None:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing"}
        return 200, found

    def _version(self, name: str, number: str) -> dict[str, Any] | None:
        return next((v for v in self.versions if (v["name"], v["version"]) == (name, number)), None)

    def _get_model_versions_get(self, given: dict[str, Any]) -> dict[str, Any] | None:
        version = self._version(given["name"], given["version"])
        return {"model_version": version} if version else None

    def _get_model_versions_search(self, given: dict[str, Any]) -> dict[str, Any]:
        begin = int(given.get("page_token", 0))
        listed = [v for v in self.versions if v["name"] not in self.unlisted]
        newest = sorted(listed, key=lambda v: -v["creation_timestamp"])
        page = newest[begin : begin + PAGE]
        more = begin + PAGE < len(newest)
        return {"model_versions": page} | ({"next_page_token": f"{begin + PAGE}"} if more else {})

    def _get_runs_get(self, given: dict[str, Any]) -> dict[str, Any] | None:
        run = self.runs.get(given["run_id"])
        return {"run": run} if run else None

    def _get_artifacts_list(self, given: dict[str, Any]) -> dict[str, Any]:
        held = self.artifacts.get(given["run_id"], {})
        return {"files": [{"path": path, "is_dir": False, "file_size": "64"} for path in held]}

    def _get_get_artifact(self, given: dict[str, Any]) -> Any:
        return self.artifacts.get(given["run_uuid"], {}).get(given["path"])

    def _post_registered_models_alias(self, given: dict[str, Any]) -> dict[str, Any] | None:
        if not self._version(given["name"], given["version"]):
            return None
        self.aliases[given["name"], given["alias"]] = given["version"]
        return {}

    def _get_registered_models_alias(self, given: dict[str, Any]) -> dict[str, Any] | None:
        number = self.aliases.get((given["name"], given["alias"]))
        return {"model_version": self._version(given["name"], number)} if number else None

    def _get_webhooks(self, given: dict[str, Any]) -> dict[str, Any]:
        shown = [{k: v for k, v in hook.items() if k != "secret"} for hook in self.webhooks]
        return {"webhooks": shown} if shown else {}

    def _post_webhooks(self, given: dict[str, Any]) -> dict[str, Any]:
        self.webhooks.append(given)
        return {"webhook": given}


class Handler(BaseHTTPRequestHandler):
    server: "Server"

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self._reply({key: values[0] for key, values in query.items()})

    def do_POST(self) -> None:
        self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _reply(self, given: dict[str, Any]) -> None:
        mlflow, path = self.server.mlflow, urlsplit(self.path).path
        mlflow.asked.append((self.command, path))
        mlflow.tokens.add(self.headers.get("Authorization", ""))
        status, answer = mlflow.answer(self.command, path, given)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: `asked` holds it."""


class Server(ThreadingHTTPServer):
    mlflow: TinyMlflow


@contextmanager
def running(mlflow: TinyMlflow, port: int = 0) -> Iterator[int]:
    """It answers on a port until the block ends; then nobody listens there."""
    server = Server(("127.0.0.1", port), Handler)
    server.mlflow = mlflow
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        mlflow.url = f"http://127.0.0.1:{server.server_port}"
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
