"""On the same rows the candidate may not be worse than what serves now, beyond the tolerance."""

from typing import Any

from apps.registry.policy import HIGHER_IS_BETTER
from apps.validation import metrics
from apps.validation.gates import Outcome, Seen, judging
from apps.validation.lifecycle import Verdict

EXACT = 1e-12  # two equal models may differ in the last bit of a sum


class MetricComparison:
    """It compares both values by one code on the same rows."""

    needs_answers = True
    needs_stable_answers = True

    def title(self, rule: dict[str, Any]) -> str:
        tolerance = rule.get("tolerance") or 0.0
        more = f" by more than {tolerance:g}" if tolerance else ""
        return f"{judging.name(rule)} not worse than what serves{more}"

    def check(self, rule: dict[str, Any], seen: Seen) -> Outcome:
        if seen.stable is None:
            return Outcome(Verdict.SKIPPED, f"Nothing serves in {seen.environment} yet")
        holdout, answers = judging.judged(seen)
        evidence: dict[str, Any] = {
            "metric": rule["metric"],
            "compared_with": str(seen.stable.version),
            "compared_digest": seen.stable.digest,
            **judging.rows(holdout),
        }
        if seen.stable_answers is None:
            words = f"{seen.stable.version} could not be judged: {seen.stable_problem}"
            return Outcome(Verdict.UNCLEAR, words, evidence)
        unclear = judging.too_little(rule["metric"], holdout)
        if unclear:
            return Outcome(Verdict.UNCLEAR, unclear, evidence)
        try:
            ours = judging.prepared(rule["metric"], holdout, answers, seen.positive_class)
        except metrics.NotMeasurable as why:
            return judging.not_measurable(rule, seen.candidate, why, evidence)
        try:
            theirs = judging.prepared(
                rule["metric"], holdout, seen.stable_answers, seen.positive_class
            )
        except metrics.NotMeasurable as why:
            return judging.not_measurable(rule, seen.stable, why, evidence)
        return self._compare(rule, seen, ours, theirs, evidence)

    def _compare(
        self,
        rule: dict[str, Any],
        seen: Seen,
        ours: metrics.Prepared,
        theirs: metrics.Prepared,
        evidence: dict[str, Any],
    ) -> Outcome:
        assert seen.stable is not None
        candidate, stable, gap = metrics.compare(ours, theirs, tick=seen.tick)
        tolerance = float(rule.get("tolerance") or 0.0)
        worse_by = -gap.value if rule["metric"] in HIGHER_IS_BETTER else gap.value
        evidence |= {
            "candidate": {"value": candidate.value, "low": candidate.low, "high": candidate.high},
            "stable": {"value": stable.value, "low": stable.low, "high": stable.high},
            "difference": gap.value,
            "low": gap.low,
            "high": gap.high,
            "worse_by": worse_by,
            "tolerance": tolerance,
        }
        summary = (
            f"{judging.name(rule)} is {candidate.value:.4f}, that of {seen.stable.version} "
            f"{stable.value:.4f}: difference {gap.value:+.4f}{judging.between(gap, sign='+')}, "
            f"tolerance {tolerance:g}"
        )
        holds = worse_by <= tolerance + EXACT
        return Outcome(Verdict.PASS if holds else Verdict.FAIL, summary, evidence)


gate = MetricComparison()
