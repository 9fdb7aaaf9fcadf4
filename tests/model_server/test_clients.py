"""Clients that none of us wrote get their answers: Triton's for V2 and MLflow's for its own."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.model_server import models
from tests.model_server.running import Running, serving

NAME = "flight-delay"


class Relay(socketserver.ThreadingTCPServer):
    """It lends a server on a unix socket a port on the loopback, as these clients know no other."""

    daemon_threads = True

    def __init__(self, server: Running) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.model = server

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Passing(socketserver.BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        with self.server.model.connect() as inner:
            inner.settimeout(None)
            back = threading.Thread(target=self._pass, args=(inner, self.request))
            back.start()
            self._pass(self.request, inner)
            back.join()

    def _pass(self, source: Any, target: Any) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                target.sendall(part)
        # Whichever side ends, the other must learn of it, or its thread would wait for ever.
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(2)


@contextlib.contextmanager
def relayed(server: Running) -> Iterator[int]:
    with Relay(server) as relay:
        thread = threading.Thread(target=relay.serve_forever)
        thread.start()
        try:
            yield relay.port
        finally:
            relay.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def port(numeric: Running) -> Iterator[int]:
    with relayed(numeric) as found:
        yield found


@pytest.fixture
def client(port: int) -> Iterator[Any]:
    found = triton.InferenceServerClient(f"127.0.0.1:{port}")
    yield found
    found.close()


def features() -> pd.DataFrame:
    return models.flights()[["distance", "hour"]].head(20)


def expected() -> list[int]:
    found: list[int] = models.numeric_model().predict(features()).tolist()
    return found


def inputs(*, binary: bool) -> list[Any]:
    frame = features()
    found = []
    for name, kind in (("distance", "FP64"), ("hour", "INT64")):
        tensor = triton.InferInput(name, [len(frame)], kind)
        tensor.set_data_from_numpy(frame[name].to_numpy(), binary_data=binary)
        found.append(tensor)
    return found


def test_triton_asks_for_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "3")
    assert not client.is_model_ready("another")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata(NAME)
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["distance", "hour"]
    assert [tensor["name"] for tensor in metadata["outputs"]] == ["predict"]


@pytest.mark.parametrize("sent_binary", [True, False])
@pytest.mark.parametrize("wanted_binary", [True, False, None])
def test_triton_infers_in_json_and_in_binary(
    client: Any, sent_binary: bool, wanted_binary: bool | None
) -> None:
    outputs = None
    if wanted_binary is not None:
        outputs = [triton.InferRequestedOutput("predict", binary_data=wanted_binary)]

    answer = client.infer(NAME, inputs(binary=sent_binary), outputs=outputs, request_id="mine")

    assert answer.as_numpy("predict").tolist() == expected()
    assert answer.as_numpy("predict").dtype == np.int64
    assert answer.get_response()["id"] == "mine"
    is_binary = "parameters" in answer.get_output("predict")
    assert is_binary is (wanted_binary is not False)


def test_triton_infers_one_matrix(client: Any) -> None:
    tensor = triton.InferInput("matrix", [20, 2], "FP32")
    tensor.set_data_from_numpy(features().to_numpy(np.float32))

    # The hours come as whole floats, which the signature's long takes.
    answer = client.infer(NAME, [tensor], model_version="3")

    assert answer.as_numpy("predict").tolist() == expected()


def test_triton_gets_refusals_in_words(client: Any) -> None:
    wanted = [triton.InferRequestedOutput("delay")]
    with pytest.raises(InferenceServerException, match="there is no output 'delay', there is pr"):
        client.infer(NAME, inputs(binary=True), outputs=wanted)
    with pytest.raises(InferenceServerException, match="column 'hour' is missing"):
        client.infer(NAME, inputs(binary=True)[:1])
    with pytest.raises(InferenceServerException, match="without a content-encoding"):
        client.infer(NAME, inputs(binary=True), request_compression_algorithm="gzip")


def test_what_triton_sent_and_got_is_captured_as_json(client: Any, numeric: Running) -> None:
    client.infer(NAME, inputs(binary=True), headers={"x-request-id": "triton-1"})

    record = numeric.captured("triton-1")
    data = [tensor["data"] for tensor in record["request"]["inputs"]]
    assert data == [features()["distance"].tolist(), features()["hour"].tolist()]
    assert record["response"]["outputs"][0]["data"] == expected()
    again = {"inputs": record["request"]["inputs"]}
    assert numeric.post(f"/v2/models/{NAME}/infer", again).json() == record["response"]


def test_triton_sends_texts_and_reads_several_outputs(pyfunc_bundle: Path, tmp_path: Path) -> None:
    value = triton.InferInput("value", [2], "FP64")
    value.set_data_from_numpy(np.array([1.5, 2.0]))
    name = triton.InferInput("name", [2], "BYTES")
    name.set_data_from_numpy(np.array(["AA", "Ü"], dtype=object))
    with serving(pyfunc_bundle, tmp_path) as server, relayed(server) as port:
        client = triton.InferenceServerClient(f"127.0.0.1:{port}")
        answer = client.infer(NAME, [value, name])
        client.close()

    assert answer.as_numpy("twice").tolist() == [3.0, 4.0]
    assert [text.decode() for text in answer.as_numpy("name")] == ["AA", "Ü"]


@pytest.fixture
def scoring(port: int) -> Any:
    # Its import warns of type hints in MLflow itself.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.pyfunc.scoring_server.client import ScoringServerClient
    return ScoringServerClient("127.0.0.1", port)  # type: ignore[no-untyped-call]


def test_mlflows_client_invokes(scoring: Any) -> None:
    scoring.wait_server_ready(timeout=10)

    assert scoring.invoke(features())["predictions"] == expected()
    assert scoring.invoke(features().to_numpy())["predictions"] == expected()
    assert scoring.invoke(features(), params={"unknown": 1})["predictions"] == expected()
    with pytest.raises(Exception, match="column 'hour' is missing"):
        scoring.invoke(features()[["distance"]])


@pytest.mark.parametrize("index", [True, False])
def test_a_csv_that_pandas_wrote_is_answered(port: int, index: bool) -> None:
    answer = requests.post(
        f"http://127.0.0.1:{port}/invocations",
        data=features().to_csv(index=index),
        headers={"content-type": "text/csv; charset=utf-8"},
        timeout=30,
    )

    assert (answer.status_code, answer.json()) == (200, {"predictions": expected()})
