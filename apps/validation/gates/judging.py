"""What the gates that judge by a metric share: their rows and their sentences."""

from typing import Any

from apps.builds.models import Build
from apps.builds.predictions import Answers
from apps.validation import metrics
from apps.validation.gates import Outcome, Seen
from apps.validation.holdout import Holdout
from apps.validation.lifecycle import Verdict


def name(rule: dict[str, Any]) -> str:
    words = metrics.WORDS[rule["metric"]]
    return words[0].upper() + words[1:]


def judged(seen: Seen) -> tuple[Holdout, Answers]:
    """The runner has read both, or the run has failed: a gate says that it needs them."""
    assert seen.holdout is not None
    assert seen.candidate_answers is not None
    return seen.holdout, seen.candidate_answers


def rows(holdout: Holdout) -> dict[str, Any]:
    return {
        "dataset": holdout.dataset.name,
        "fingerprint": holdout.dataset.fingerprint,
        "rows": holdout.rows,
        "rows_without_label": holdout.rows_without_label,
    }


def too_little(metric: str, holdout: Holdout) -> str:
    """It says why these rows cannot carry a verdict; blank when they can."""
    if holdout.rows < metrics.LEAST_ROWS:
        return (
            f"The data set has {holdout.rows} labelled rows; a verdict needs at least "
            f"{metrics.LEAST_ROWS}"
        )
    if metric not in metrics.REGRESSION and len(set(holdout.labels)) < 2:
        return f"All {holdout.rows:,} labels are {holdout.labels[0]!r}; one class tells nothing"
    return ""


def prepared(
    metric: str, holdout: Holdout, answers: Answers, positive_class: str
) -> metrics.Prepared:
    return metrics.prepare(metric, holdout.labels, answers.predictions, positive_class)


def not_measurable(
    rule: dict[str, Any], build: Build, why: Exception, evidence: dict[str, Any]
) -> Outcome:
    words = f"{name(rule)} of {build.version} cannot be taken: {why}"
    return Outcome(Verdict.UNCLEAR, words, evidence)


def between(found: metrics.Measured, sign: str = "") -> str:
    if found.low is None or found.high is None:
        return ""
    return f" (95 %: {found.low:{sign}.4f} to {found.high:{sign}.4f})"
