"""It asks ONNX models through onnxruntime, as MLflow's wrapper does, on one thread."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model_server import enforce, inputs
from model_server.loading import direct
from model_server.loading.direct import Array, Call, Direct
from model_server.mlmodel import ModelCard, Signature

LOADER = "onnx-direct"
_CPU = "CPUExecutionProvider"


class Table(dict[str, Array]):
    """It is columns of one length, which are answered as a DataFrame would be: row by row."""

    @property
    def columns(self) -> list[str]:
        """It is the names."""
        return list(self)

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        """It makes one object a row, the only orientation that answers are given in."""
        if orient != "records":
            raise ValueError(f"the orientation {orient!r} is not known")
        rows = zip(*(column.tolist() for column in self.values()), strict=True)
        return [dict(zip(self, row, strict=True)) for row in rows]


class Asker:
    """It maps what was built to the model's inputs, and the outputs back to their names."""

    def __init__(self, session: Any, *, as_table: bool) -> None:
        self._session = session
        self._inputs = [(found.name, found.type) for found in session.get_inputs()]
        self._outputs = [found.name for found in session.get_outputs()]
        self._as_table = as_table

    def __call__(self, data: Any) -> dict[str, Any]:
        """It takes arrays by input name, or one array for a model with one input."""
        feeds = dict(data) if isinstance(data, Mapping) else {self._inputs[0][0]: data}
        for name, kind in self._inputs:
            # JSON makes doubles of all numbers, and most models were exported for floats.
            if kind == "tensor(float)" and name in feeds and feeds[name].dtype == np.float64:
                feeds[name] = feeds[name].astype(np.float32)
        found = dict(zip(self._outputs, self._session.run(self._outputs, feeds), strict=True))
        return _table(found) if self._as_table else found


def load(card: ModelCard) -> Direct | None:
    """It loads the model, or returns None where MLflow would choose hardware or types."""
    flavor = direct.flavor(card, "onnx")
    signature = card.signature
    if flavor is None or signature is None:
        return None
    if not (signature.tensors or inputs.is_numeric(signature.columns)):
        return None
    library: Any = importlib.import_module("onnxruntime")
    if _chooses_hardware(flavor.get("providers"), library.get_available_providers()):
        return None
    path = card.directory / str(flavor.get("data"))
    session = _session(library, path, flavor.get("onnx_session_options") or {})
    form = _form(signature, [found.name for found in session.get_inputs()])
    call = Asker(session, as_table=bool(signature.columns))
    return Direct(LOADER, call, form) if _answers(call, form, signature) else None


def _session(library: Any, path: Path, chosen: dict[str, Any]) -> Any:
    options = library.SessionOptions()
    # Starting threads for one row costs more than the row itself does.
    options.intra_op_num_threads = chosen.get("intra_op_num_threads") or 1
    options.inter_op_num_threads = chosen.get("inter_op_num_threads") or 1
    mode = str(chosen.get("execution_mode") or "").upper()
    if mode in ("SEQUENTIAL", "PARALLEL"):
        options.execution_mode = getattr(library.ExecutionMode, f"ORT_{mode}")
    if level := chosen.get("graph_optimization_level"):
        options.graph_optimization_level = library.GraphOptimizationLevel(level)
    for key, value in (chosen.get("extra_session_config") or {}).items():
        options.add_session_config_entry(key, value)
    return library.InferenceSession(str(path), providers=[_CPU], sess_options=options)


def _chooses_hardware(declared: Any, available: list[str]) -> bool:
    wanted = [declared] if isinstance(declared, str) else declared or ["CUDAExecutionProvider"]
    # An entry that is not a plain name has options, which MLflow knows how to pass on.
    return any(not isinstance(one, str) or (one in available and one != _CPU) for one in wanted)


def _form(signature: Signature, names: list[str]) -> inputs.Form | None:
    if not signature.columns:
        return None
    if len(names) == 1:
        return inputs.Matrix(signature.columns)
    return inputs.Vectors(tuple(one for one in signature.columns if one.name in names))


def _answers(call: Call, form: inputs.Form | None, signature: Signature) -> bool:
    try:
        call(_trial(form, signature))
    except Exception:  # noqa: BLE001 - whatever the model raises, MLflow's wrapper is the safe form
        return False
    return True


def _trial(form: inputs.Form | None, signature: Signature) -> Any:
    if form is not None:
        zeros = {column.name: [0] for column in signature.columns}
        return form.build(enforce.Checked(zeros, 1, 0))
    found = {
        tensor.name: np.zeros([abs(length) for length in tensor.shape], tensor.dtype)
        for tensor in signature.tensors
    }
    return found.get(None, found)


def _table(found: dict[str, Any]) -> dict[str, Any]:
    columns = {name: np.asarray(values).reshape(-1) for name, values in found.items()}
    # A label and its probabilities are no table; MLflow fails there, the arrays are an answer.
    return Table(columns) if len({len(column) for column in columns.values()}) == 1 else found
