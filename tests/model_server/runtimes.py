"""It lays out models that are not MLflow's, and runs servers that are not ours."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_server.upstream.child import PATH

needs_node = pytest.mark.skipif(
    shutil.which("node", path=PATH) is None, reason=f"node is not installed in {PATH}"
)
SIGNATURE = {
    "inputs": [{"name": "distance", "type": "double"}, {"name": "hour", "type": "long"}],
    "outputs": [{"name": "late", "type": "double"}],
}
EXAMPLE: dict[str, Any] = {
    "dataframe_split": {"columns": ["distance", "hour"], "data": [[1400.0, 17], [0.5, 6]]}
}
# A model in Node: late = distance + 100 * hour. It tells its process and what it was given, takes
# its time where it is asked to, and ends where hours are negative.
SERVER_JS = """
const http = require("http"), fs = require("fs");
const name = process.env.PORTAL_MODEL_NAME;
function answer(response, status, body) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body, null, 1));
}
function infer(body) {
  const of = Object.fromEntries(body.inputs.map((tensor) => [tensor.name, tensor.data]));
  if (!of.hour) throw new Error("hour is missing");
  if (of.hour[0] < 0) process.exit(9);
  const data = of.distance.map((distance, row) => distance + 100 * of.hour[row]);
  const outputs = [{ name: "late", datatype: "FP64", shape: [data.length], data }];
  return { model_name: name, outputs, pid: process.pid };
}
function binary(head, content) {
  const size = content.length - head, values = [];
  for (let i = 0; i < size; i += 8) values.push(content.readDoubleLE(head + i) * 2);
  const tail = Buffer.from(new Float64Array(values).buffer);
  const output = { name: "twice", datatype: "FP64", shape: [values.length],
                   parameters: { binary_data_size: tail.length } };
  return [Buffer.from(JSON.stringify({ model_name: name, outputs: [output] })), tail];
}
const server = http.createServer((request, response) => {
  if (request.url === "/v2/health/ready") return answer(response, 200, {});
  if (request.url !== `/v2/models/${name}/infer`) return answer(response, 404, {});
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const content = Buffer.concat(parts);
    const length = request.headers["inference-header-content-length"];
    if (length) {
      const [head, tail] = binary(Number(length), content);
      response.writeHead(200, { "inference-header-content-length": head.length });
      return response.end(Buffer.concat([head, tail]));
    }
    try {
      const body = JSON.parse(content), gate = (body.parameters || {}).gate;
      const found = infer(body);
      if (!gate) return answer(response, 200, found);
      const watcher = fs.watch(gate, () => {
        watcher.close();
        answer(response, 200, found);
      });
      fs.writeFileSync(gate + ".entered", "");
    } catch (error) {
      answer(response, 422, { error: error.message });
    }
  });
});
server.listen(process.env.PORTAL_SOCKET);
console.log("node is up");
process.on("SIGTERM", () => { console.log("node stops"); process.exit(0); });
"""


def write_card(folder: Path, card: dict[str, Any], **files: str | bytes) -> Path:
    """It lays out a card and the files beside it; a name's last underscore is its dot."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serving.yaml").write_text(yaml.safe_dump(card))
    for name, content in files.items():
        path = folder / ".".join(name.rsplit("_", 1))
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def node_model(folder: Path, script: str = SERVER_JS, **card: Any) -> Path:
    """It lays out a model that a Node server answers."""
    whole = {
        "runtime": "command",
        "command": ["node", "server.js"],
        "signature": SIGNATURE,
        "input_example": EXAMPLE,
        **card,
    }
    return write_card(folder, whole, server_js=script)


def alive(pid: int) -> bool:
    """It tells whether a process runs; one that only nobody has asked about yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """It is a V2 server elsewhere; what it does with a request, the first tensor's name says."""

    protocol_version = "HTTP/1.1"
    server: Elsewhere

    def do_GET(self) -> None:
        if self.path == "/v2/health/ready":
            self.reply(200, {"ready": True})
        elif self.path == "/v2/models/ours":
            self.reply(200, {"name": "ours", "inputs": [TENSOR], "outputs": "none", "x": 1})
        else:
            self.reply(404, {"error": "nothing"})

    def do_POST(self) -> None:
        self.content = self.rfile.read(int(self.headers["content-length"]))
        self.server.ports.append(self.client_address[1])
        self.server.seen.append((self.path, dict(self.headers), self.content))
        length = self.headers.get("inference-header-content-length")
        self.head = self.content[: int(length)] if length else self.content
        name = json.loads(self.head)["inputs"][0]["name"]
        self.server.behaviours.get(name, plain)(self)

    def reply(self, status: int, body: Any, **headers: str) -> None:
        """It answers JSON, or bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def raw(self, content: bytes) -> None:
        """It writes what need not be HTTP, and hangs up."""
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        """It says nothing."""


TENSOR = {"name": "input", "datatype": "FP64", "shape": [-1]}


def plain(handler: Handler) -> None:
    """It answers each value twice as large."""
    [tensor] = json.loads(handler.head)["inputs"]
    data = [2 * value for value in tensor["data"]]
    output = {"name": "twice", "datatype": "FP64", "shape": [len(data)], "data": data}
    handler.reply(200, {"outputs": [output]})


class Elsewhere(ThreadingHTTPServer):
    """It is such a server on a port of its own, with what it was asked."""

    daemon_threads = True

    def __init__(self, behaviours: dict[str, Behaviour]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours = behaviours
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.ports: list[int] = []
        self.released = threading.Event()

    @property
    def place(self) -> str:
        """It is host and port."""
        return f"127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def elsewhere(behaviours: dict[str, Behaviour] | None = None) -> Iterator[Elsewhere]:
    """It runs the server for the time of a block."""
    with Elsewhere(behaviours or {}) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
