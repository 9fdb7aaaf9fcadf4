"""It asks the application in this process, without a server: many requests in a short time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from model_server.app import App, Identity
from model_server.batching import Batching
from model_server.capture import Capture, Record
from model_server.loading import DIRECT, LoadedModel
from model_server.mlmodel import Column, ModelCard, Param, Signature, Tensor
from tests import loops

V2 = "/v2/models/flight-delay/infer"
V1 = "/v1/models/flight-delay:predict"
MLFLOW = "/invocations"
PATHS = (V2, V1, MLFLOW)


def of_columns(**types: str) -> Signature:
    """It declares columns; an optional one has a type that ends in "?"."""
    columns = [Column(n, kind.rstrip("?"), not kind.endswith("?")) for n, kind in types.items()]
    return Signature(tuple(columns), (), [], [])


def of_tensors(*tensors: Tensor) -> Signature:
    """It declares tensors."""
    return Signature((), tensors, [], [])


class Kept(Capture):
    """It keeps the records in memory, where a test can read them."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"), revision="41", replica="0")
        self.records: list[Record] = []

    def add(self, record: Record) -> None:
        self.records.append(record)


class InProcess:
    """It is an application around a model that answers [0], or does what the test wants."""

    calls = 0

    def __init__(
        self,
        signature: Signature | None = None,
        *,
        raises: Exception | None = None,
        answers: Any = (0,),
        params: tuple[Param, ...] = (),
        batching: Batching | None = None,
    ) -> None:
        self.raises = raises
        self.answers = answers
        self.seen: Any = None
        self.kept = Kept()
        width = len(signature.columns) if signature else 0
        model = LoadedModel(
            ModelCard(Path("nowhere"), {}, signature, params=params),
            DIRECT,
            self._model,
            SimpleNamespace(n_features_in_=width),
        )
        identity = Identity("flight-delay", "production", "41", "3", "sha256:whole", "0")
        self.app = App(model, identity, self.kept, batching=batching)
        self.calls = 0  # without the one by which the loader tries the model out

    def _model(self, data: Any) -> Any:
        self.calls += 1
        if self.raises is not None:
            raise self.raises
        self.seen = data
        return self.answers(data) if callable(self.answers) else self.answers

    @property
    def record(self) -> dict[str, Any]:
        """It is the one record so far, as the collector reads it."""
        [record] = self.kept.records
        line = record.line()
        assert line.count(b"\n") == 1
        found: dict[str, Any] = orjson.loads(line)
        return found

    def post(self, path: str, content: bytes, **headers: str) -> tuple[int, Any]:
        """It sends one body and returns the status and the parsed answer."""
        status, _, body = self.send(path, content, **headers)
        return status, orjson.loads(body)

    def send(self, path: str, content: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """It sends one body and returns the status, the headers and the body of the answer."""
        return loops.run(self.sending(path, content, **headers))

    async def sending(
        self, path: str, content: bytes, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """It does the same within a loop, where several may be sent at a time."""
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        given = [(name.replace("_", "-").encode(), v.encode()) for name, v in headers.items()]
        scope = {"type": "http", "path": path, "method": "POST", "headers": given}
        await self.app(scope, receive, send)
        start, body = sent
        names = {name.decode(): value.decode() for name, value in start["headers"]}
        return start["status"], names, body["body"]
