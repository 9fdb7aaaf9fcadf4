"""`kill -9` in each kind of job: it is done again, and never twice."""

import os
import signal

from tests.journeys import paths
from tests.journeys.client import Json, until
from tests.journeys.product import Product

JUDGED = """\
version: 1
holdout: flights
positive_class: "1"
environments:
  staging:
    enter: automatic
    gates:
      - {gate: metric_threshold, metric: accuracy, at_least: 0.9}
      - {gate: schema_compatible}
    approvals: {required: 0}
    rollout:
      steps: [{weight: 100, hold_seconds: 0, analysis: false}]
"""
TWO_STEPS = paths.STRAIGHT.replace(
    "steps: [",
    "steps: [{weight: 20, hold_seconds: 3, analysis: false}, ",
)


def kill_whoever_runs(product: Product, job: Json) -> None:
    """`worker` says host and process: the pool's child that has the job."""
    pid = int(job["worker"].rpartition(":")[2])
    assert pid in product.processes_left()
    os.kill(pid, signal.SIGKILL)


def running_job(product: Product, kind: str, subject: int, said: str) -> Json:
    def look() -> Json | None:
        jobs = [j for j in product.reader.results("jobs") if j["kind"] == kind]
        mine = next((j for j in jobs if j["subject_id"] == subject), None)
        runs = mine is not None and mine["status"] == "running" and said in mine["progress"]
        return mine if runs else None

    return until(f"{kind} job of {subject} is at {said!r}", look, 60, every=0.05)


def test_a_build_whose_worker_is_killed(product: Product, model: str) -> None:
    product.log(model)
    product.version(model, 1)
    [build] = until("a build", lambda: product.builds(model) or None, 20)

    kill_whoever_runs(product, running_job(product, "builds", build["id"], ""))

    ended = product.build(model, "succeeded")
    job = product.ended_job(ended["job"])
    assert (job["status"], job["attempt"]) == ("succeeded", 2)
    assert any("was lost" in line["text"] for line in job["lines"])
    assert [b["id"] for b in product.builds(model)] == [build["id"]]
    assert len(product.events(model, "build.started")) == 1
    assert len(product.events(model, "build.succeeded")) == 1
    assert product.events(model, "build.failed") == []
    assert product.version(model, 1)["digest"] == ended["digest"]


def test_a_validation_whose_worker_is_killed(product: Product, model: str) -> None:
    paths.registered(product, model, kind="slow")
    product.people["ada"].upload(
        model, paths.rows(), name="flights", role="holdout", label_column="late"
    )
    product.policy(model, JUDGED)
    promotion = product.promotion(model, "staging", "checking", "approved")
    run = promotion["validation"]

    kill_whoever_runs(product, running_job(product, "validation", run, "Read 200 rows"))

    product.promotion(model, "staging", "approved")
    judged = product.reader.get(f"validations/{run}")
    assert (judged["status"], judged["verdict"]) == ("done", "pass")
    assert [c["gate"] for c in judged["checks"]] == ["metric_threshold", "schema_compatible"]
    job = product.ended_job(judged["job"])
    assert (job["status"], job["attempt"]) == ("succeeded", 2)
    assert [r["id"] for r in product.reader.results("validations", model=model)] == [run]
    assert len(product.events(model, "validation.started")) == 1
    assert len(product.events(model, "validation.done")) == 1
    assert len(product.events(model, "promotion.approved")) == 1


def test_a_rollout_whose_ticker_is_killed(product: Product, model: str) -> None:
    paths.serving(product, model)
    number = product.log(model)
    product.version(model, number)
    product.policy(model, TWO_STEPS)
    until("v2 is built", lambda: product.version(model, number)["digest"] or None, 120)
    approved = paths.approve(product, paths.waiting(product, model, number))
    product.rollout(approved, "progressing")

    pid = product.pid_of("ticker")
    family = [pid, *children(pid)]
    for member in family:
        os.kill(member, signal.SIGKILL)
    product.comes_back("ticker", pid)

    ended = product.rollout(approved, "succeeded")
    assert ended["weight_percent"] == 100
    assert product.answering_version(model) == "2"
    for verb in ("rollout.started", "rollout.succeeded"):
        mine = [e for e in product.events(model, verb) if e["object_id"] == ended["id"]]
        assert len(mine) == 1, verb
    split = [e["evidence"]["weights"] for e in product.events(model, "traffic.changed")]
    assert split == [{"2": 100.0}, {"1": 80.0, "2": 20.0}, {"1": 100.0}]


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123  as the kernel names it
        return [int(child) for child in file.read().split()]
