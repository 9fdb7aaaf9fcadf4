"""The gates over real bundles, on real rows, in the models' own environments."""

from __future__ import annotations

import pytest

from apps.validation.lifecycle import RunStatus, Verdict
from tests.validation.conftest import Judge, Make, table

pytestmark = pytest.mark.django_db(transaction=True)
AUC = {"gate": "metric_threshold", "metric": "roc_auc", "at_least": 0.7, "at_most": None}
COMPARED = {"gate": "metric_comparison", "metric": "roc_auc", "tolerance": 0.0}
SCHEMA = {"gate": "schema_compatible"}


def test_every_gate_keeps_its_verdict_with_the_figures(built: Make, judge: Judge) -> None:
    judge.holdout(table(unlabelled=25))

    run = judge.run(built(), AUC, COMPARED, SCHEMA)

    assert (run.status, run.verdict, run.reason) == (RunStatus.DONE, Verdict.PASS, "")
    threshold, compared, schema = run.checks.all()
    assert threshold.verdict == Verdict.PASS
    assert threshold.evidence["rows"] == 375
    assert threshold.evidence["rows_without_label"] == 25
    low, value, high = (threshold.evidence[key] for key in ("low", "value", "high"))
    assert 0.9 < low < value < high < 1.0
    assert f"ROC AUC is {value:.4f}" in threshold.summary
    assert (compared.verdict, compared.summary) == (
        Verdict.SKIPPED,
        "Nothing serves in staging yet",
    )
    assert schema.verdict == Verdict.PASS
    assert schema.evidence["no_longer_used"] == ["carrier"]
