"""An MLflow model, an ONNX file, a Node server and a server elsewhere, split on one endpoint."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from django.conf import settings
from onnx import TensorProto, helper

from apps.serving.backends import WantedRevision, programs
from apps.serving.models import Revision
from tests.model_server.running import make_bundle
from tests.model_server.runtimes import elsewhere, needs_node, node_model, write_card
from tests.serving.cast import ROW, ask, until
from tests.serving.conftest import Stage
from tests.serving.test_faults import INFER
from tests.serving.test_shadow import captured, copy

# It answers `late`: each distance and a hundred more.
SCRIPT = """
const server = require("http").createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    response.writeHead(200, { "content-type": "application/json" });
    if (request.method === "GET") return response.end("{}");
    const data = JSON.parse(Buffer.concat(parts)).inputs[0].data.map((value) => value + 100);
    const output = { name: "late", datatype: "FP64", shape: [data.length], data };
    response.end(JSON.stringify({ outputs: [output] }));
  });
});
server.listen(process.env.PORTAL_SOCKET);
"""
DISTANCE = {
    "inputs": [{"name": "distance", "type": "double"}],
    "outputs": [{"name": "late", "type": "double"}],
}


def doubled() -> bytes:
    """An ONNX model that answers twice its input."""
    made = [
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None])
        for name in ("distance", "late")
    ]
    node = helper.make_node("Add", ["distance", "distance"], ["late"])
    graph = helper.make_graph([node], "doubled", made[:1], made[1:])
    opset = helper.make_opsetid("", 17)
    content: bytes = helper.make_model(
        graph, opset_imports=[opset], ir_version=9
    ).SerializeToString()
    return content


@needs_node
def test_all_kinds_are_split_copied_and_captured_alike(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with elsewhere({}) as server:
        monkeypatch.setattr(settings, "REMOTE_SERVERS", [server.place])
        onnx = write_card(
            tmp_path / "onnx", {"runtime": "onnx", "file": "m.onnx"}, m_onnx=doubled()
        )
        node = node_model(
            tmp_path / "node", SCRIPT, signature=DISTANCE, input_example={"inputs": [3.0]}
        )
        url = write_card(
            tmp_path / "url",
            {"runtime": "url", "url": f"http://{server.place}", "signature": DISTANCE},
        )
        plain = stage.deploy(1)
        others = {
            kind: deploy(stage, number, kind, make_bundle(tmp_path / f"{kind}-bundle", folder))
            for number, (kind, folder) in enumerate(
                {"onnx": onnx, "command": node, "url": url}.items(), start=2
            )
        }
        revisions = [plain, *others.values()]
        stage.wait_ready(*revisions)
        stage.split(dict.fromkeys(revisions, 250))
        answers = {plain: 1.0, others["onnx"]: 6.0, others["command"]: 103.0, others["url"]: 6.0}
        seen: Counter[str] = Counter()
        for _ in range(200):
            status, headers, body = ask(INFER, ROW)
            revision = next(r for r in revisions if str(r.pk) == headers["x-revision"])
            assert isinstance(body, dict)
            assert (status, body["outputs"][0]["data"]) == (200, [answers[revision]])
            seen[headers["x-revision"]] += 1
        # A quarter of 200 each: fewer than 20 happens once in 10^7 runs.
        assert min(seen.values()) >= 20
        assert len(seen) == 4
        for revision in revisions:
            until(
                f"all answers of {revision} were captured",
                lambda r=revision: len(captured(r)) >= seen[str(r.pk)],  # type: ignore[misc]
            )
            [line, *_] = captured(revision)
            assert (line["request"], line["status"], line["shadow"]) == (ROW, 200, False)

        stage.split({plain: 1000})
        copy(stage, {others["command"]: 1000, others["url"]: 1000})
        assert ask(INFER, ROW, x_request_id="copied")[1]["x-revision"] == str(plain.pk)
        for kind in ("command", "url"):
            until(f"the copy to {kind} was captured", lambda k=kind: was_copied(others[k]))  # type: ignore[misc]


def was_copied(revision: Revision) -> bool:
    return any(line["id"] == "copied" and line["shadow"] for line in captured(revision))


def deploy(stage: Stage, number: int, kind: str, bundle: Path) -> Revision:
    revision = stage.deploy(number, bundle=bundle)
    revision.build.flavors = [kind]
    revision.build.save()
    return revision


def test_a_server_that_is_allowed_no_more_is_asked_no_more(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with elsewhere({}) as server:
        monkeypatch.setattr(settings, "REMOTE_SERVERS", [])
        card = {"runtime": "url", "url": f"http://{server.place}"}
        folder = write_card(tmp_path / "url", card)
        revision = deploy(stage, 1, "url", make_bundle(tmp_path, folder))

        def failing() -> str | None:
            return stage.converge().failing.get(revision.pk)

        why = until("it failed", failing)
        assert f"the server {server.place} is not allowed" in why
        assert server.seen == []


@pytest.mark.parametrize("kind", ["command", ""])
def test_only_commands_may_reserve_more_than_they_use(kind: str) -> None:
    limits = programs.limits_of(WantedRevision(1, 1, "d", "/b", "/e", 1, runtime=kind))
    assert (limits.memory_bytes is None) is (kind == "command")
    assert (limits.memory_bytes or limits.data_bytes) == 9216 << 20
