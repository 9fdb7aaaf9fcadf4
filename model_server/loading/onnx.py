"""It asks ONNX models through onnxruntime, as MLflow's wrapper does, on one thread."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model_server import enforce, inputs
from model_server.answers import by_row
from model_server.card import ServingCard
from model_server.errors import BadRequest, NotLoadable
from model_server.loading import direct
from model_server.loading.direct import Array, Call, Direct
from model_server.mlmodel import Column, ModelCard, Signature, read_signature

LOADER = "onnx-direct"
FILE_LOADER = "onnx-file"
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    "string": "object",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class LoadedFile:
    """It is a file ready to be asked, and the signature that it or its card declares."""

    signature: Signature
    direct: Direct


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


class Outputs(Table):
    """It is what a file answers: in V2 by name, elsewhere one output alone, or row by row."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        super().__init__({name: np.asarray(values) for name, values in found.items()})

    def to_dict(self, orient: str) -> Any:
        """It makes lists of the arrays."""
        return by_row({name: values.tolist() for name, values in self.items()})


class Feeds:
    """It builds columns into the file's inputs: one each by name, or all into its only one."""

    def __init__(self, found: list[Any], columns: tuple[Column, ...]) -> None:
        names = [column.name for column in columns]
        self._by_name = {one.name: one for one in found if one.name in names}
        self._whole = found[0] if len(found) == 1 and not self._by_name else None
        missing = [one.name for one in found if one.name not in self._by_name]
        if missing and self._whole is None:
            raise NotLoadable(
                f"the file's input {missing[0]!r} is no column of the signature, "
                f"which has {', '.join(names)}"
            )
        if self._whole is not None:
            _check_width(self._whole, len(columns))

    def build(self, checked: enforce.Checked) -> dict[str, Array]:
        """It gives each input the type and the number of dimensions that the file declares."""
        if self._whole is not None:
            arrays = [_filled(self._whole, *item) for item in checked.columns.items()]
            return {self._whole.name: np.stack(arrays, axis=1)}
        found = {}
        for name, one in self._by_name.items():
            array = _filled(one, name, checked.columns[name])
            found[name] = array if len(one.shape) < 2 else array.reshape(-1, 1)
        return found


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


def load_file(card: ServingCard) -> LoadedFile:
    """It loads a file that no MLflow describes. Raises: NotLoadable in words."""
    library: Any = importlib.import_module("onnxruntime")
    session = _session(library, card.directory / card.file, {})
    signature = card.signature or _described(session)
    form = Feeds(session.get_inputs(), signature.columns) if signature.columns else None
    asker = Asker(session, as_table=False)
    return LoadedFile(signature, Direct(FILE_LOADER, lambda data: Outputs(asker(data)), form))


def _described(session: Any) -> Signature:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    for found in inputs:
        if _dtype(found) is None:
            raise NotLoadable(f"the input {found.name!r} is a {found.type}, which no request holds")
    described = read_signature(
        {"inputs": [_spec(one) for one in inputs], "outputs": [_spec(one) for one in outputs]}
    )
    if described is None:
        raise NotLoadable("the ONNX file has no inputs")
    return described


def _spec(found: Any) -> dict[str, Any]:
    shape = [n if isinstance(n, int) and n >= 0 else -1 for n in found.shape] or [-1]
    inner = {"dtype": _dtype(found) or "object", "shape": shape}
    return {"type": "tensor", "name": found.name, "tensor-spec": inner}


def _dtype(found: Any) -> str | None:
    kind = found.type.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(kind) if found.type == f"tensor({kind})" else None


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


def _check_width(found: Any, columns: int) -> None:
    width = found.shape[1] if len(found.shape) == 2 else 0
    if width != columns and isinstance(width, int):  # a text or None stands for any length
        raise NotLoadable(
            f"the file's input {found.name!r} has shape {list(found.shape)}, "
            f"the signature has {columns} columns"
        )


def _filled(found: Any, name: str, values: list[Any]) -> Array:
    dtype = _dtype(found) or "object"
    if None in values and not dtype.startswith("float"):
        raise BadRequest(f"column {name!r} must not be null: the file knows no missing {dtype}")
    return np.array(values, dtype=dtype)


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
