"""The same rows in the words of each protocol, as whole HTTP requests. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Questions:
    """How a server is asked about one row, and where its answer holds the prediction."""

    protocol: str
    requests: Sequence[str]
    answer: Sequence[str | int]


def request(path: str, body: Any) -> str:
    """It writes one HTTP request whole."""
    text = json.dumps(body, separators=(",", ":"))
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Accept: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"
    )


def _asked(
    protocol: str,
    path: str,
    rows: Rows,
    body: Callable[[Sequence[float]], Any],
    answer: Sequence[str | int],
) -> Questions:
    return Questions(protocol, [request(path, body(row)) for row in rows], answer)


def v2_matrix(path: str, rows: Rows) -> Questions:
    """Open Inference Protocol V2: the row as one tensor."""

    def body(row: Sequence[float]) -> Any:
        tensor = {"name": "input", "shape": [1, len(row)], "datatype": "FP64", "data": row}
        return {"inputs": [tensor]}

    return _asked("V2, one tensor", path, rows, body, ("outputs", 0, "data", 0))


def v2_columns(path: str, rows: Rows, columns: Sequence[str]) -> Questions:
    """Open Inference Protocol V2: one tensor a column, which MLServer makes a DataFrame of."""

    def body(row: Sequence[float]) -> Any:
        tensors = [
            {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [value]}
            for name, value in zip(columns, row, strict=True)
        ]
        return {"parameters": {"content_type": "pd"}, "inputs": tensors}

    return _asked("V2, columns", path, rows, body, ("outputs", 0, "data", 0))


def v1_instances(path: str, rows: Rows) -> Questions:
    """KServe V1, and the `instances` of TensorFlow Serving."""
    return _asked("V1", path, rows, lambda row: {"instances": [row]}, ("predictions", 0))


def scoring_split(path: str, rows: Rows, columns: Sequence[str]) -> Questions:
    """MLflow's scoring format: a DataFrame with its columns named in each request."""
    return _asked(
        "dataframe_split",
        path,
        rows,
        lambda row: {"dataframe_split": {"columns": columns, "data": [row]}},
        ("predictions", 0),
    )


def scoring_inputs(path: str, rows: Rows, columns: Sequence[str]) -> Questions:
    """MLflow's scoring format: a list of values for each column."""
    return _asked(
        "inputs",
        path,
        rows,
        lambda row: {"inputs": {name: [value] for name, value in zip(columns, row, strict=True)}},
        ("predictions", 0),
    )


def array(path: str, rows: Rows, answer: Sequence[str | int]) -> Questions:
    """A service of one's own that takes {"rows": [[...]]}."""
    return _asked(f"JSON rows at {path}", path, rows, lambda row: {"rows": [row]}, answer)
