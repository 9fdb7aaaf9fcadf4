"""The gates over real bundles, on real rows, in the models' own environments."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from apps.audit.models import Event
from apps.jobs import services as jobs
from apps.jobs.lifecycle import Status
from apps.jobs.models import Job
from apps.registry.models import Version
from apps.validation import services
from apps.validation.lifecycle import RunStatus, Verdict
from apps.validation.models import CheckResult, ValidationRun
from tests.builds import artifacts, cast
from tests.builds.cast import Store
from tests.validation.conftest import Judge, Make, table

pytestmark = pytest.mark.django_db(transaction=True)
AUC = {"gate": "metric_threshold", "metric": "roc_auc", "at_least": 0.7, "at_most": None}
COMPARED = {"gate": "metric_comparison", "metric": "roc_auc", "tolerance": 0.0}
SCHEMA = {"gate": "schema_compatible"}


def only(run: ValidationRun) -> CheckResult:
    return run.checks.get()


def test_a_real_build_is_judged_by_every_gate(
    version: Version, store: Store, judge: Judge, now: datetime
) -> None:
    artifacts.write(store.place(version), artifacts.fitted(), requirements=artifacts.SKLEARN)
    judge.holdout(table(unlabelled=25))

    run = judge.run(cast.build(version, now), AUC, COMPARED, SCHEMA)

    assert (run.status, run.verdict, run.reason) == (RunStatus.DONE, Verdict.PASS, "")
    threshold, compared, schema = run.checks.all()
    assert threshold.verdict == Verdict.PASS
    assert threshold.evidence["rows"] == 375
    assert threshold.evidence["rows_without_label"] == 25
    low, value, high = (threshold.evidence[key] for key in ("low", "value", "high"))
    assert 0.9 < low < value < high < 1.0
    assert threshold.title == "ROC AUC at least 0.7"
    assert threshold.summary == (
        f"ROC AUC is {value:.4f} (95 %: {low:.4f} to {high:.4f}) on 375 rows; "
        "it must be at least 0.7"
    )
    assert compared.verdict == Verdict.SKIPPED
    assert compared.summary == "Nothing serves in staging yet"
    assert schema.verdict == Verdict.PASS
    assert schema.evidence["no_longer_used"] == ["carrier"]
    assert run.figures["rows_judged"] == 375
    verbs = Event.objects.filter(object_type="validationrun").values_list("verb", flat=True)
    assert set(verbs) == {"validation.started", "validation.done"}


def test_a_worse_candidate_fails_against_what_serves(built: Make, judge: Judge) -> None:
    judge.holdout(table())
    stable, candidate = built(1), built(2, artifacts.bad())

    run = judge.run(candidate, COMPARED, stable=stable)

    check = only(run)
    assert (run.verdict, check.verdict) == (Verdict.FAIL, Verdict.FAIL)
    evidence = check.evidence
    ours, theirs = evidence["candidate"]["value"], evidence["stable"]["value"]
    assert evidence["difference"] == pytest.approx(ours - theirs)
    assert evidence["worse_by"] == pytest.approx(theirs - ours)
    assert evidence["low"] < evidence["difference"] < evidence["high"] < 0
    assert evidence["compared_digest"] == stable.digest
    assert run.reason == check.summary
    assert f"difference {ours - theirs:+.4f}" in check.summary


def test_the_same_model_again_is_no_worse(built: Make, judge: Judge) -> None:
    judge.holdout(table())

    run = judge.run(built(2), COMPARED, {**COMPARED, "metric": "brier"}, stable=built(1))

    assert run.verdict == Verdict.PASS
    assert [c.evidence["difference"] for c in run.checks.all()] == [0.0, 0.0]


def test_a_limit_that_is_missed_fails_with_both_figures(built: Make, judge: Judge) -> None:
    judge.holdout(table())
    rule = {"gate": "metric_threshold", "metric": "log_loss", "at_least": None, "at_most": 0.01}

    check = only(judge.run(built(), rule))

    assert check.verdict == Verdict.FAIL
    assert check.evidence["at_most"] == 0.01
    assert check.summary.endswith("on 400 rows; it must be at most 0.01")


@pytest.mark.parametrize(
    ("rows", "summary"),
    [
        (table(99), "The data set has 99 labelled rows; a verdict needs at least 100"),
        (table(150).assign(late=1), "All 150 labels are 1; one class tells nothing"),
    ],
)
def test_too_little_data_is_unclear(rows: Any, summary: str, built: Make, judge: Judge) -> None:
    judge.holdout(rows)

    run = judge.run(built(), AUC)

    assert (run.status, run.verdict) == (RunStatus.DONE, Verdict.UNCLEAR)
    assert run.reason == summary


def test_answers_that_are_classes_are_unclear_for_a_metric_of_scores(
    built: Make, judge: Judge
) -> None:
    judge.holdout(table())
    accuracy = {**AUC, "metric": "accuracy"}

    run = judge.run(built(predict_fn="predict"), AUC, accuracy)

    scores, classes = run.checks.all()
    assert (scores.verdict, classes.verdict) == (Verdict.UNCLEAR, Verdict.PASS)
    assert "log it with pyfunc_predict_fn='predict_proba'" in scores.summary


def test_a_holdout_without_the_label_column_fails_the_run(built: Make, judge: Judge) -> None:
    kept = judge.holdout(table())
    kept.label_column = "arrived_late"
    kept.save()

    run = judge.run(built(), AUC)

    assert (run.status, run.verdict) == (RunStatus.FAILED, "")
    assert run.reason == (
        "The data set h has no column 'arrived_late', its label; "
        "its columns are distance, hour, late, carrier"
    )
    assert run.job is not None
    assert run.job.status == Status.FAILED
    assert run.checks.count() == 0
    assert Event.objects.get(verb="validation.failed").reason == run.reason


def test_a_holdout_that_is_not_registered_fails_the_run(built: Make, judge: Judge) -> None:
    judge.holdout(table(), name="another")

    run = judge.run(built(), AUC)

    assert run.status == RunStatus.FAILED
    assert run.reason == (
        "The policy judges on the data set 'h', which is not registered as a holdout of "
        "flight-delay; registered are: another"
    )


def test_a_holdout_whose_file_is_gone_fails_the_run(built: Make, judge: Judge) -> None:
    kept = judge.holdout(table())
    Path(kept.path).unlink()

    run = judge.run(built(), AUC)

    assert (run.status, run.reason) == (RunStatus.FAILED, "The data set h has lost its file")


def test_a_column_that_the_holdout_lacks_is_named(built: Make, judge: Judge) -> None:
    judge.holdout(table().drop(columns="hour"))

    run = judge.run(built(), AUC)

    assert run.status == RunStatus.FAILED
    assert run.reason == (
        "flight-delay v1 needs the columns hour, which the data set h lacks; "
        "it has distance, carrier"
    )


def test_a_model_that_takes_the_label_fails_the_run(built: Make, judge: Judge) -> None:
    judge.holdout(table())
    candidate = built(2, columns=("distance", "late"), types={"late": "long"})

    run = judge.run(candidate, AUC, SCHEMA)

    assert (run.status, run.verdict) == (RunStatus.FAILED, "")
    assert run.reason == (
        "flight-delay v2 takes the label column late as an input; train without it"
    )
    assert run.checks.count() == 0


def test_so_it_does_when_it_could_do_without_the_label(built: Make, judge: Judge) -> None:
    judge.holdout(table())
    candidate = built()
    candidate.signature["inputs"].append({"name": "late", "type": "long", "required": False})
    candidate.save()

    run = judge.run(candidate, AUC)

    assert run.reason == (
        "flight-delay v1 takes the label column late as an input; train without it"
    )


def test_a_model_that_does_not_answer_the_rows_fails_the_run(built: Make, judge: Judge) -> None:
    judge.holdout(table())

    run = judge.run(built(1, artifacts.Unwilling()), AUC)

    assert run.status == RunStatus.FAILED
    assert run.reason == (
        "flight-delay v1 did not answer the data set h. ValueError: carrier was never seen"
    )


def test_what_serves_but_cannot_be_judged_leaves_the_comparison_unclear(
    built: Make, judge: Judge
) -> None:
    judge.holdout(table())

    run = judge.run(built(2), AUC, COMPARED, stable=built(1, artifacts.Unwilling()))

    threshold, compared = run.checks.all()
    assert (threshold.verdict, compared.verdict) == (Verdict.PASS, Verdict.UNCLEAR)
    assert compared.summary.startswith("flight-delay v1 could not be judged: flight-delay v1 did")


def test_the_same_bundle_on_the_same_rows_is_asked_once(
    built: Make, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge.holdout(table())
    candidate = built()
    first = judge.run(candidate, AUC)
    monkeypatch.setattr("apps.builds.predictions._ask", None)  # asking again would raise

    again = judge.run(candidate, AUC)

    assert (again.status, again.pk != first.pk) == (RunStatus.DONE, True)
    assert only(again).evidence == only(first).evidence


def test_a_schema_that_asks_more_of_callers_fails(built: Make, judge: Judge) -> None:
    candidate = built(2, columns=("distance", "hour", "carrier"), types={"carrier": "string"})

    check = only(judge.run(candidate, SCHEMA, stable=built(1), holdout_name=None))

    assert check.verdict == Verdict.FAIL
    assert check.summary == (
        "flight-delay v2 needs carrier (string), which flight-delay v1 does not have"
    )
    assert check.evidence["missing"] == ["carrier (string)"]


def test_a_run_whose_worker_vanished_is_done_once_by_the_next(
    built: Make, judge: Judge, now: datetime
) -> None:
    judge.holdout(table())
    run = judge.queue(built(), AUC, SCHEMA)
    job = run.job
    assert job is not None
    assert job.claim(worker="gone:1", now=now, seconds=15)
    lost = jobs.Running(Job.objects.get(pk=job.pk))
    assert services.begin(run=run, running=lost)
    half = {"gate": "x", "title": "half", "verdict": Verdict.PASS, "summary": "", "seconds": 0.1}
    services.add_check(run=run, running=lost, number=1, **half)

    jobs.sweep(now=now + timedelta(seconds=16))
    Job.objects.update(not_before=timezone.now())
    jobs.run(job.pk)

    run.refresh_from_db()
    assert (run.status, run.verdict) == (RunStatus.DONE, Verdict.PASS)
    assert [check.gate for check in run.checks.all()] == ["metric_threshold", "schema_compatible"]
    assert Event.objects.filter(verb="validation.done").count() == 1
    with pytest.raises(jobs.LeaseLost):
        services.finish(run=run, running=lost, now=now)
