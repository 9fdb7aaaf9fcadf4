"""A model with versions whose bundles really run, and callers who count what they get."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import yaml
from django.conf import settings

from apps.accounts.models import Team
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.registry.models import Model, Version
from apps.registry.services import policies
from tests.factories.accounts import UserFactory

NOW = datetime(2030, 1, 7, 12, 0, tzinfo=UTC)
PATIENCE_SECONDS = 60.0  # the processors may be busy with something else
T = TypeVar("T")
ROW = {"inputs": [{"name": "distance", "shape": [1], "datatype": "FP64", "data": [3.0]}]}


def until(what: str, seen: Callable[[], T | None]) -> T:
    """It asks until the answer is true; a hang becomes a failure in words."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        if found := seen():
            return found
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS:g} s in vain until {what}"
        time.sleep(0.02)


def make_model(name: str = "flight-delay", *, team: Team | None = None) -> Model:
    team = team or Team.objects.get_or_create(slug="flights", defaults={"name": "Flights"})[0]
    return Model.objects.create(name=name, team=team, created_at=NOW)


def put_serving(model: Model, **part: object) -> None:
    """It puts a policy in force whose part about serving in production is this."""
    text = yaml.safe_dump({"version": 1, "environments": {"production": {"serving": part}}})
    policies.put_policy(model=model, text=text, actor=UserFactory.create(), now=NOW)


def make_build(
    model: Model,
    *,
    number: int,
    bundle: Path = Path("/nowhere"),
    environment: Path = Path("/nowhere"),
    digest: str = "sha256:whole",
    status: BuildStatus = BuildStatus.SUCCEEDED,
) -> Build:
    version = Version.objects.create(
        model=model,
        number=number,
        source=f"models:/{model.name}/{number}",
        registered_at=NOW,
        seen_at=NOW,
        seen_by="sweep",
        digest=digest,
    )
    return Build.objects.create(
        version=version,
        number=1,
        status=status,
        digest=digest,
        bundle_path=str(bundle),
        environment_path=str(environment),
        created_at=NOW,
    )


class Callers:
    """Keep-alive connections that send the same request until they are told to stop."""

    def __init__(self, path: str, *, connections: int = 4, limit_seconds: float = 120) -> None:
        self.counts: Counter[str] = Counter()  # by x-revision, since the last reset
        self.lost: list[str] = []
        self.answered = 0
        self._path = path
        self._deadline = time.monotonic() + limit_seconds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call) for _ in range(connections)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def reset(self) -> None:
        with self._lock:
            self.counts.clear()
            self.answered = 0

    def wait_for(self, answers: int) -> None:
        """It returns when so many more were answered."""
        goal = self.answered + answers
        until(f"{answers} requests were answered", lambda: self.answered >= goal or self.lost)

    def _call(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", settings.STACK.gateway_port)
        body = json.dumps(ROW)
        while not self._stop.is_set() and time.monotonic() < self._deadline:
            try:
                connection.request("POST", self._path, body)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as failed:
                connection.close()
                with self._lock:
                    self.lost.append(repr(failed))
                continue
            with self._lock:
                if answer.status == 200:
                    self.answered += 1
                    self.counts[answer.headers["x-revision"]] += 1
                else:
                    self.lost.append(f"{answer.status} {text.decode()}")
            time.sleep(0.002)  # the servers share the processors with the callers
        connection.close()


def ask(
    path: str, body: object | None = None, **headers: str
) -> tuple[int, dict[str, str], object]:
    """It sends one request through the gateway and gives status, headers and JSON."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", settings.STACK.gateway_port, timeout=PATIENCE_SECONDS
    )
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    method = "GET" if body is None else "POST"
    connection.request(method, path, None if body is None else json.dumps(body), named)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    names = [name.lower() for name, _ in answer.getheaders()]
    assert len(names) == len(set(names)), f"a header stands twice: {names}"
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(said)
