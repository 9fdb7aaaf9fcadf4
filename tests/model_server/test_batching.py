"""Requests that arrive together are answered by one call, each as if it had come alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from model_server import cli
from model_server.batching import Batches, Batching, joins
from model_server.mlmodel import Param, Tensor
from tests import loops
from tests.model_server.asking import MLFLOW, V1, InProcess, of_columns, of_tensors
from tests.model_server.running import serving

DISTANCES = of_columns(distance="double", hour="double")
SOON = Batching(most_rows=8)


def doubled(data: Any) -> Any:
    """It answers each row with twice its first value, and fails for a negative one."""
    if (data < 0).any():
        raise ValueError(f"{data.min():g} is below zero")
    return data[:, 0] * 2


def asked(answers: Callable[[Any], Any] = doubled, **options: Any) -> InProcess:
    return InProcess(DISTANCES, answers=answers, **{"batching": SOON, **options})


def together(model: InProcess, *bodies: Any, path: str = V1) -> list[tuple[int, Any]]:
    """It sends bodies at the same time and returns status and answer of each, in that order."""

    async def send() -> list[tuple[int, dict[str, str], bytes]]:
        return await asyncio.gather(*(model.sending(path, orjson.dumps(body)) for body in bodies))

    return [(status, orjson.loads(content)) for status, _, content in loops.run(send())]


def rows(*firsts: float) -> dict[str, Any]:
    return {"instances": [[first, 0.5] for first in firsts]}


def test_two_at_a_time_are_one_call_and_each_gets_its_own_answer() -> None:
    model = asked()

    found = together(model, rows(1), rows(2, 3))

    assert found == [(200, {"predictions": [2.0]}), (200, {"predictions": [4.0, 6.0]})]
    assert model.calls == 1
    assert model.seen.tolist() == [[1, 0.5], [2, 0.5], [3, 0.5]]
    assert [record.status for record in model.kept.records] == [200, 200]


def test_a_bad_row_fails_its_own_caller_alone() -> None:
    model = asked()

    found = together(model, rows(1), rows(-1), rows(3))

    words = "the model failed: ValueError: -1 is below zero"
    assert found == [
        (200, {"predictions": [2.0]}),
        (500, {"error": words}),
        (200, {"predictions": [6.0]}),
    ]
    assert model.calls == 4
    errors = ["", "ValueError: -1 is below zero", ""]
    assert [record.error for record in model.kept.records] == errors


def test_what_the_signature_refuses_is_refused_before_it_joins() -> None:
    model = asked()

    found = together(model, rows(1), {"instances": [["x", 1]]}, rows(3))

    words = "column 'distance' must be double, got string 'x' in row 0"
    assert [status for status, _ in found] == [200, 400, 200]
    assert found[1][1] == {"error": words}
    assert model.calls == 1


def test_a_model_that_exits_ends_no_loop() -> None:
    def leaves(data: Any) -> Any:
        if data.any():  # the loader tries a row of zeros
            raise SystemExit(9)
        return doubled(data)

    assert [status for status, _ in together(asked(leaves), rows(1), rows(2))] == [500, 500]


@pytest.mark.parametrize(
    "answers",
    [
        lambda data: [7] * len(data),
        lambda data: np.array([7.0]),
        lambda data: np.float64(7),
        lambda data: {"a": data[:, 0]},
    ],
)
def test_answers_that_are_no_array_of_rows_are_given_one_by_one(
    answers: Callable[[Any], Any],
) -> None:
    model = asked(answers)

    first, again = together(model, rows(1), rows(2)), together(model, rows(1), rows(2))

    assert [status for status, _ in [*first, *again]] == [200] * 4
    assert model.calls == 5  # once together, to see it, and never again


def test_no_call_has_more_rows_than_were_allowed() -> None:
    sizes: list[int] = []

    def counted(data: Any) -> Any:
        sizes.append(len(data))
        return doubled(data)

    model = asked(counted, batching=Batching(most_rows=4))
    sizes.clear()

    found = together(model, rows(1, 2), rows(3), rows(4, 5), rows(6), rows(*range(9)), rows(7))

    assert [answer["predictions"] for _, answer in found] == [
        [2, 4],
        [6],
        [8, 10],
        [12],
        [2 * first for first in range(9)],
        [14],
    ]
    assert sorted(sizes) == [3, 4, 9]


def test_a_full_call_does_not_wait() -> None:
    model = asked(batching=Batching(most_rows=2, wait_seconds=3600))

    assert together(model, rows(1), rows(2)) == [
        (200, {"predictions": [2.0]}),
        (200, {"predictions": [4.0]}),
    ]
    assert model.calls == 1


def test_a_lone_request_waits_no_longer_than_it_was_told_and_that_is_recorded() -> None:
    model = asked(batching=Batching(most_rows=8, wait_seconds=0.02))

    assert together(model, rows(1)) == [(200, {"predictions": [2.0]})]

    [record] = model.kept.records
    assert record.us >= 19_000


def test_one_that_comes_within_the_wait_joins() -> None:
    calls: list[int] = []

    async def send() -> list[Any]:
        first = asyncio.ensure_future(batches.call(np.array([[1.0]]), None))
        for _ in range(3):
            await asyncio.sleep(0)
        return [await batches.call(np.array([[2.0]]), None), await first]

    def call(data: Any, params: Any) -> Any:
        calls.append(len(data))
        return data * 10

    batches = Batches(call, Batching(most_rows=2, wait_seconds=3600))

    assert [found.tolist() for found in loops.run(send())] == [[[20.0]], [[10.0]]]
    assert calls == [2]


def test_rows_of_another_type_or_width_are_another_call() -> None:
    calls: list[tuple[str, tuple[int, ...]]] = []

    def call(data: Any, params: Any) -> Any:
        calls.append((data.dtype.str, data.shape))
        return data

    given = [np.zeros((1, 2)), np.zeros((1, 2), "f4"), np.zeros((1, 3), "f4"), np.zeros((1, 3, 1))]
    batches = Batches(call, SOON)

    async def ask() -> list[Any]:
        return await asyncio.gather(*(batches.call(one, None) for one in [*given, given[3]]))

    found = loops.run(ask())

    assert [one.shape for one in found] == [(1, 2), (1, 2), (1, 3), (1, 3, 1), (1, 3, 1)]
    assert calls == [("<f8", (1, 2)), ("<f4", (1, 2)), ("<f4", (1, 3)), ("<f8", (2, 3, 1))]


def test_parameters_and_what_is_no_array_go_alone() -> None:
    calls: list[Any] = []

    def call(data: Any, params: Any) -> Any:
        calls.append((data, params))
        return data

    batches = Batches(call, SOON)
    given = [("text", None), ({"a": 1}, None), ("one", {"share": 1}), ("two", {"share": 2})]

    async def ask() -> list[Any]:
        return await asyncio.gather(*(batches.call(data, params) for data, params in given))

    assert loops.run(ask()) == ["text", {"a": 1}, "one", "two"]
    assert calls == given


def test_requests_with_params_reach_the_model_alone() -> None:
    model = asked(params=(Param("share", "double"),))
    body = {"instances": [[1.0, 2.0]], "params": {"share": 0.5}}

    found = together(model, body, body, path=MLFLOW)

    assert found == [(200, {"predictions": [2.0]})] * 2
    assert model.calls == 2


def test_only_rows_that_stand_first_are_put_together() -> None:
    assert joins(DISTANCES)
    assert joins(of_tensors(Tensor(None, "float32", (-1, 2))))
    assert not joins(None)
    assert not joins(of_tensors(Tensor(None, "float32", (3, 2))))
    assert not joins(of_tensors(Tensor("a", "float32", (-1,)), Tensor("b", "float32", (-1,))))


def test_without_the_option_each_is_a_call() -> None:
    model = asked(batching=None)

    assert [status for status, _ in together(model, rows(1), rows(2))] == [200, 200]
    assert model.calls == 2


def test_the_server_batches_where_it_is_told_to(numeric_bundle: Path, tmp_path: Path) -> None:
    body = {"instances": [[1400.5, 17]]}

    with serving(numeric_bundle, tmp_path, "--batch-rows", "8", "--batch-wait-ms", "30") as server:
        answer = server.post(V1, body, x_request_id="waited")
        record = server.captured("waited")

    assert answer.status_code == 200
    assert record["us"] >= 29_000


@pytest.mark.parametrize("option", [["--batch-rows", "0"], ["--batch-wait-ms", "nan"]])
def test_an_option_out_of_bounds_is_refused(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["serve", *option])

    assert left.value.code == 2
    assert f"argument {option[0]}: must be" in capsys.readouterr().err
