"""It opens a model, whatever it is: MLflow's, an ONNX file, a command, an address."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from model_server import card
from model_server.loading import LoadedModel, load, onnx

NAME = "model"  # of a model behind another server, where it is not served under a name of its own


def open_model(directory: Path, name: str = NAME) -> LoadedModel:
    """It reads what the directory holds and makes it ready to answer; `close` it in the end."""
    if not card.is_card(directory):
        return load(directory)
    found = card.read(directory)
    if found.runtime == card.ONNX:
        file = onnx.load_file(found)
        described = replace(found, signature=file.signature)
        return LoadedModel(described, file.direct.loader, file.direct.call, form=file.direct.form)
    # Only these need the client, and its libraries.
    from model_server.upstream import remote

    return remote.opened(found, name)
