"""It reads the MLmodel file: flavors, signature and the saved input example."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from model_server.errors import NotLoadable

SCALARS = ("boolean", "integer", "long", "float", "double", "string", "binary", "datetime")


@dataclass(frozen=True)
class Column:
    """It is one column of a signature; a type outside SCALARS is passed on unchecked."""

    name: str
    type: str
    required: bool


@dataclass(frozen=True)
class Tensor:
    """It is one tensor of a signature; -1 in the shape means any length."""

    name: str | None
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Param:
    """It is one declared parameter; a type that MLflow does not call a scalar is not checked."""

    name: str
    type: str
    is_list: bool = False


@dataclass(frozen=True)
class Signature:
    """It is what a model declares: columns or tensors in, and the same out."""

    columns: tuple[Column, ...]
    tensors: tuple[Tensor, ...]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


@dataclass(frozen=True)
class ModelCard:
    """It is the content of an MLmodel file that serving needs."""

    directory: Path
    flavors: dict[str, dict[str, Any]]
    signature: Signature | None
    example_info: dict[str, Any] = field(default_factory=dict)
    params: tuple[Param, ...] = ()

    @property
    def pyfunc(self) -> dict[str, Any]:
        """It is the pyfunc flavor's configuration, empty when there is none."""
        return self.flavors.get("python_function") or {}

    @property
    def predict_fn(self) -> str:
        """It is the method that answers requests, as the author chose when logging."""
        return str(self.pyfunc.get("predict_fn") or "predict")

    @property
    def platform(self) -> str:
        """It is what V2 metadata calls the kind of model."""
        return "mlflow-" + ("sklearn" if "sklearn" in self.flavors else "pyfunc")

    def example(self) -> dict[str, Any] | None:
        """It finds the saved input example and returns it as a scoring request, or None."""
        serving = self.directory / str(
            self.example_info.get("serving_input_path") or "serving_input_example.json"
        )
        if serving.is_file():
            found = json.loads(serving.read_bytes())
            return found if isinstance(found, dict) else {"inputs": found}
        name = self.example_info.get("artifact_path")
        plain = self.directory / str(name)
        if not name or plain.suffix != ".json" or not plain.is_file():
            return None
        found = json.loads(plain.read_bytes())
        if self.example_info.get("type") == "dataframe":
            split = self.example_info.get("pandas_orient", "split") == "split"
            return {"dataframe_split" if split else "dataframe_records": found}
        return {"inputs": found}


def read(directory: Path) -> ModelCard:
    """It parses the directory's MLmodel file and says what is wrong when it cannot."""
    path = directory / "MLmodel"
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise NotLoadable(f"there is no readable MLmodel file: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise NotLoadable(f"the MLmodel file is not YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("flavors"), dict):
        raise NotLoadable("the MLmodel file names no flavors")
    signature = content.get("signature")
    return ModelCard(
        directory=directory,
        flavors=content["flavors"],
        signature=read_signature(signature),
        example_info=content.get("saved_input_example_info") or {},
        params=_params(signature),
    )


def read_signature(raw: Any) -> Signature | None:
    """It reads inputs and outputs, each a list or the JSON of one."""
    if not isinstance(raw, dict) or not raw.get("inputs"):
        return None
    inputs = _specs(raw.get("inputs"))
    tensors = tuple(_tensor(spec) for spec in inputs if spec.get("type") == "tensor")
    columns = tuple(_column(i, spec) for i, spec in enumerate(inputs))
    # MLflow writes one nameless column of any type where it could not infer a schema.
    if tensors or (len(columns) == 1 and columns[0].type == "any" and not inputs[0].get("name")):
        columns = ()
    return Signature(columns, tensors, inputs, _specs(raw.get("outputs")))


def _params(signature: Any) -> tuple[Param, ...]:
    # A model may declare parameters and no inputs.
    raw = signature.get("params") if isinstance(signature, dict) else None
    return tuple(
        Param(
            str(spec.get("name")),
            str(spec.get("type") or spec.get("dtype")),
            is_list=spec.get("shape") is not None,
        )
        for spec in _specs(raw)
    )


def _specs(raw: Any) -> list[dict[str, Any]]:
    if not raw:
        return []
    found = json.loads(raw) if isinstance(raw, str) else raw
    return [spec for spec in found if isinstance(spec, dict)] if isinstance(found, list) else []


def _column(position: int, spec: dict[str, Any]) -> Column:
    name = spec.get("name")
    kind = spec.get("type")
    return Column(
        # An unnamed column is known by its position, as pandas would name it.
        name=str(position) if name is None else str(name),
        type=kind if isinstance(kind, str) else "any",
        required=bool(spec.get("required", not spec.get("optional", False))),
    )


def _tensor(spec: dict[str, Any]) -> Tensor:
    inner = spec.get("tensor-spec") or {}
    shape = tuple(int(length) for length in inner.get("shape") or (-1,))
    name = spec.get("name")
    return Tensor(None if name is None else str(name), str(inner.get("dtype", "float64")), shape)
