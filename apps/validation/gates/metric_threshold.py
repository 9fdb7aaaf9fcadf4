"""The metric on the holdout must be at least, or at most, so much."""

from typing import Any

from apps.validation import metrics
from apps.validation.gates import Outcome, Seen, judging
from apps.validation.lifecycle import Verdict


class MetricThreshold:
    """It compares the candidate's value with the policy's limit."""

    needs_answers = True
    needs_stable_answers = False

    def title(self, rule: dict[str, Any]) -> str:
        word, limit = _limit(rule)
        return f"{judging.name(rule)} {word} {limit:g}"

    def check(self, rule: dict[str, Any], seen: Seen) -> Outcome:
        holdout, answers = judging.judged(seen)
        evidence: dict[str, Any] = {"metric": rule["metric"], **judging.rows(holdout)}
        unclear = judging.too_little(rule["metric"], holdout)
        if unclear:
            return Outcome(Verdict.UNCLEAR, unclear, evidence)
        try:
            prepared = judging.prepared(rule["metric"], holdout, answers, seen.positive_class)
        except metrics.NotMeasurable as why:
            return judging.not_measurable(rule, seen.candidate, why, evidence)
        found = metrics.measure(prepared, tick=seen.tick)
        word, limit = _limit(rule)
        holds = found.value >= limit if word == "at least" else found.value <= limit
        evidence |= {
            "value": found.value, "low": found.low, "high": found.high,
            word.replace(" ", "_"): limit,
        }  # fmt: skip
        figures = f"{judging.name(rule)} is {found.value:.4f}{judging.between(found)}"
        summary = f"{figures} on {holdout.rows:,} rows; it must be {word} {limit:g}"
        return Outcome(Verdict.PASS if holds else Verdict.FAIL, summary, evidence)


def _limit(rule: dict[str, Any]) -> tuple[str, float]:
    if rule.get("at_least") is not None:
        return "at least", float(rule["at_least"])
    return "at most", float(rule["at_most"])


gate = MetricThreshold()
