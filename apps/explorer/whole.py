"""One request as a page shows it: what was asked, and every answer beside the first one. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.explorer import answers
from apps.explorer.answers import Table


@dataclass(frozen=True)
class Answered:
    """One revision's answer to the request."""

    row: Mapping[str, Any]  # as the log has it
    columns: list[str]
    values: list[list[tuple[Any, bool]]]  # and whether it differs from the first answer
    left_out: int
    response: str  # JSON, to copy
    differs: str  # how, in words; "": it is the first one, or the same

    @property
    def latency_ms(self) -> float:
        return float(self.row["latency_us"]) / 1000


@dataclass(frozen=True)
class Whole:
    inputs: Table
    request: str  # JSON, to copy
    answers: list[Answered]


def of(found: Sequence[Mapping[str, Any]]) -> Whole | None:
    """It reads the log's rows of one request; None when there are none.

    The first answer is the one that a caller got, where there is one.
    """
    if not found:
        return None
    rows = sorted(found, key=lambda row: (row["shadow"], row["at"], row["revision"]))
    tables = [answers.outputs(row["response"]) for row in rows]
    marks = answers.marked(tables)
    return Whole(
        inputs=answers.inputs(rows[0]["request"]),
        request=pretty(rows[0]["request"]),
        answers=[
            Answered(
                row=row,
                columns=table.columns,
                values=values,
                left_out=table.left_out,
                response=pretty(row["response"]),
                differs=_differs(rows[0], row),
            )
            for row, table, values in zip(rows, tables, marks, strict=True)
        ],
    )


def _differs(first: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    if row is first:
        return ""
    if row["status"] != first["status"]:
        return f"The first was answered with {first['status']}, this with {row['status']}"
    return answers.compare(first["response"], row["response"]).words


def pretty(body: Any) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False)
