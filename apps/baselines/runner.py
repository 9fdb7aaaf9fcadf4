"""Freezes one baseline: reads the rows, asks the model for its answers, counts both."""

from typing import Any

import pyarrow as pa
from django.utils import timezone

from apps.baselines import columns, freezing, importance, reference, selectors, services
from apps.baselines.meaning import INPUT, Meaning
from apps.baselines.models import Baseline
from apps.baselines.reference import Reference
from apps.builds import predictions
from apps.builds.models import Build
from apps.core.errors import Refused, Unavailable
from apps.jobs.services import Failed, Running
from apps.registry.models import Dataset
from apps.registry.services import datasets


def work(baseline_id: int, running: Running) -> None:
    """It runs the freezing to its end; a second attempt starts from nothing.

    Raises: jobs.services.Failed when these rows cannot be compared with; core.errors.Unavailable
    when MLflow did not answer; Cancelled, LeaseLost.
    """
    baseline = Baseline.objects.select_related(
        "version__model__team", "build__version__model", "dataset"
    ).get(pk=baseline_id)
    if not services.begin(baseline=baseline, running=running):
        return  # the attempt before was lost after it had finished
    assert baseline.build is not None
    _Work(baseline, baseline.build, running).all()


class _Work:
    """One attempt, and what it has to say of the baseline."""

    def __init__(self, baseline: Baseline, build: Build, running: Running) -> None:
        self.baseline = baseline
        self.build = build
        self.running = running
        self.remarks: list[str] = []

    def all(self) -> None:
        rows = self._read(self.baseline.dataset or self._fetch())
        inputs, odd = columns.inputs(rows.inputs, self.build.signature)
        if rows.missing:
            self._remark(f"The data set has no column {_list(rows.missing)}: not compared")
        if odd:
            self._remark(f"Of another type than the model's input, so not compared: {_list(odd)}")
        if not inputs:
            raise Failed(
                f"No column of {rows.dataset} is of the type that {self.build.version} takes: "
                f"{_list(odd)}. Register one whose columns fit the model's signature"
            )
        if rows.labels is None:
            self._remark("No label column is named, so quality is neither known nor estimated")
        table = pa.table({**inputs, **self._ask(rows)})
        facts = freezing.freeze(
            table,
            rows.labels,
            selectors.positive_class(self.baseline.version),
            is_timed=rows.is_timed,
            tick=self.running.check,
        )
        if facts.sorted_by:
            self._remark(_unordered(facts.sorted_by))
        weights = self._weigh(rows, facts.meaning)
        self.running.check()
        said: dict[str, Any] = {"time_from": rows.span[0], "time_to": rows.span[1]}
        services.freeze(
            baseline=self.baseline,
            running=self.running,
            facts=facts,
            now=timezone.now(),
            rows=table.num_rows,
            reason=". ".join(self.remarks),
            importance=weights,
            **said,
        )
        self._say(f"Frozen: {len(facts.layout.columns)} columns of {table.num_rows:,} rows")

    def _fetch(self) -> Dataset:
        """What the training run logged becomes a data set of the model, as if it had been sent."""
        given = selectors.input_of(self.baseline.version)
        if given is None:
            raise Failed("The data set of the training run is gone; register a reference set")
        try:
            dataset = datasets.register_input(
                given=given, now=timezone.now(), tick=self.running.check
            )
        except Unavailable:
            raise
        except Refused as refused:
            raise Failed(
                f"The data set {given.name} that the run logged cannot be used. {refused.message}. "
                "Register a reference set instead"
            ) from refused
        services.note(baseline=self.baseline, running=self.running, dataset=dataset)
        return dataset

    def _read(self, dataset: Dataset) -> Reference:
        rows = reference.read(dataset, self.build, tick=self.running.check)
        self._say(f"Read {rows.rows:,} of {dataset.rows:,} rows of {dataset.name}")
        if rows.rows < dataset.rows:
            self._remark(f"{rows.rows:,} evenly spread rows of {dataset.rows:,}")
        return rows

    def _ask(self, rows: Reference) -> dict[str, pa.Array]:
        """A model that does not answer is no reason to compare no inputs."""
        try:
            answers = predictions.of(build=self.build, asked=rows.asked, tick=self.running.check)
        except Failed as failure:
            self._remark(f"Without answers, so neither score nor quality: {failure}")
            return {}
        self._say(f"{self.build.version} answered {rows.rows:,} rows in {answers.seconds:.1f} s")
        return columns.outputs(answers.predictions, self.build.signature)

    def _weigh(self, rows: Reference, meaning: Meaning | None) -> dict[str, float]:
        found = importance.of_run(self.build, rows.features)
        if found or meaning is None:
            return found
        return importance.by_permuting(self.build, rows, meaning, tick=self.running.check)

    def _remark(self, words: str) -> None:
        self.remarks.append(words)
        self._say(words)

    def _say(self, words: str) -> None:
        self.running.check()
        self.running.log(words)


def _unordered(names: list[str]) -> str:
    shown = _list([name.removeprefix(INPUT) for name in names])
    what = f"{shown} {'is' if len(names) == 1 else 'are'} sorted or grouped"
    return (
        f"Its rows are not in the order of time ({what}): natural variation is not known. "
        "Name a time column to have it"
    )


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown
