"""Runs the gates of one environment's policy over one build."""

import time

from django.utils import timezone

from apps.builds import predictions
from apps.builds.models import Build
from apps.builds.predictions import Answers
from apps.jobs.services import Failed, Running
from apps.validation import gates, holdout, services
from apps.validation.gates import Seen
from apps.validation.holdout import Holdout
from apps.validation.models import ValidationRun


def work(run_id: int, running: Running) -> None:
    """It gives each rule its verdict, and the run the worst of them; a second attempt starts anew.

    Raises: jobs.services.Failed when the run itself cannot be done; Cancelled, LeaseLost.
    """
    run = ValidationRun.objects.select_related(
        "version__model", "environment", "dataset", "build__version__model",
        "compared_with__version__model",
    ).get(pk=run_id)  # fmt: skip
    if not services.begin(run=run, running=running):
        return  # the attempt before was lost after it had finished
    seen = _look(run, running)
    for number, rule in enumerate(run.gates, 1):
        gate = gates.load(rule["gate"])
        running.check()
        began = time.monotonic()
        outcome = gate.check(rule, seen)
        services.add_check(
            run=run,
            running=running,
            number=number,
            gate=rule["gate"],
            title=gate.title(rule),
            verdict=outcome.verdict,
            summary=outcome.summary,
            evidence=outcome.evidence,
            seconds=round(time.monotonic() - began, 3),
        )
        running.log(f"{gate.title(rule)}: {outcome.verdict}. {outcome.summary}")
    running.check()
    verdict = services.finish(run=run, running=running, now=timezone.now())
    running.log(f"The verdict is {verdict}")


def _look(run: ValidationRun, running: Running) -> Seen:
    """It gathers what the gates need: rows, and the answers of both models."""
    kinds = [gates.load(rule["gate"]) for rule in run.gates]
    needs_answers = any(kind.needs_answers for kind in kinds)
    rows = _read(run, running, required=needs_answers)
    ours = theirs = None
    problem = ""
    if needs_answers and rows is not None:
        ours = _ask(run.build, rows, running)
        if run.compared_with is not None and any(kind.needs_stable_answers for kind in kinds):
            try:
                theirs = _ask(run.compared_with, rows, running)
            except Failed as failure:  # that is no fault of the candidate
                problem = str(failure)
                running.log(problem)
        figures = {
            "rows_read": rows.rows_read,
            "rows_without_label": rows.rows_without_label,
            "rows_judged": rows.rows,
            "seconds": ours.seconds,
            "stable_seconds": theirs.seconds if theirs else None,
        }
        services.note(run=run, running=running, figures=figures)
    return Seen(
        environment=run.environment.name,
        candidate=run.build,
        stable=run.compared_with,
        holdout=rows,
        positive_class=run.positive_class,
        candidate_answers=ours,
        stable_answers=theirs,
        stable_problem=problem,
        tick=running.check,
    )


def _read(run: ValidationRun, running: Running, *, required: bool) -> Holdout | None:
    if run.dataset is None:
        if not required:
            return None
        names = run.version.model.datasets.filter(role="holdout").values_list("name", flat=True)
        known = ", ".join(sorted(set(names))) or "none"
        raise Failed(
            f"The policy judges on the data set {run.holdout_name!r}, which is not registered as a "
            f"holdout of {run.version.model.name}; registered are: {known}"
        )
    rows = holdout.read(run.dataset, tick=running.check)
    running.log(
        f"Read {rows.rows_read:,} rows of {run.dataset.name}; "
        f"{rows.rows_without_label:,} have no label and are left out"
    )
    return rows


def _ask(build: Build, rows: Holdout, running: Running) -> Answers:
    running.check()
    answers = predictions.of(build=build, asked=rows.asked, tick=running.check)
    how = "kept from an earlier run" if answers.kept else f"in {answers.seconds:.1f} s"
    running.log(f"{build.version} answered {rows.rows:,} rows, {how}")
    return answers
