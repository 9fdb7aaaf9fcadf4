"""docs/any-language.md: its cards parse, and its Node server answers as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model_server import card
from tests.model_server.running import make_bundle, serving
from tests.model_server.runtimes import needs_node

TEXT = (Path(__file__).parents[2] / "docs" / "any-language.md").read_text()
CARDS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
[SERVER] = re.findall(r"```js\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(("place", "runtime"), [(0, "onnx"), (1, "command"), (2, "url")])
def test_its_cards_are_right(place: int, runtime: str) -> None:
    found = card.parse(CARDS[place].encode(), Path("nowhere"))

    assert found.runtime == runtime
    assert found.signature is not None
    assert found.input_example is not None


def test_it_names_every_key() -> None:
    keys = {key for keys in card.OWN.values() for key in keys} | set(card.SHARED)

    section = TEXT.partition("## Every key of a card")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == keys


@needs_node
def test_its_node_server_answers(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "server.js").write_text(SERVER)
    (model / "serving.yaml").write_text(CARDS[1])
    bundle = make_bundle(tmp_path, model)
    with serving(bundle, tmp_path / "run", TMPDIR=str(tmp_path)) as server:
        body = {"instances": [{"distance": 1000, "hour": 12}]}
        answer = server.post("/v1/models/flight-delay:predict", body)

    assert answer.json() == {"predictions": [0.5]}
    assert server.process.returncode == 0
