"""Questions about baselines."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from apps.baselines.layout import COUNTERS, Column, Counts, Kind, Layout, unpack64
from apps.baselines.lifecycle import Origin, State
from apps.baselines.meaning import INPUT, Meaning
from apps.baselines.models import Baseline
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Dataset, RunInput, Version
from apps.registry.selectors import LOGGED_IN_MLFLOW

UNFINISHED = (State.QUEUED, State.RUNNING)
WITH_UNSEEN = (Kind.DISCRETE, Kind.CATEGORICAL)
KEPT_SHAPES = 64  # a layout of many columns is some megabytes of Python


@dataclass(frozen=True)
class Frozen:
    """What live data is compared with, ready to be used."""

    layout: Layout
    counts: Counts  # of the reference
    natural: dict[str, dict[str, float]]
    importance: dict[str, float]
    meaning: Meaning | None
    calibration: dict[str, Any]
    rows: int


def in_force(version: Version) -> Baseline | None:
    """The newest ready one, without its layout and counts: those gives `shape`."""
    return in_force_of([version.pk]).get(version.pk)


def in_force_of(version_ids: Iterable[int]) -> dict[int, Baseline]:
    """Version -> its newest ready baseline; those without one are not there."""
    rows = Baseline.objects.filter(version__in=set(version_ids), state=State.READY)
    newest = rows.order_by("version_id", "-number").distinct("version_id")
    return {row.version_id: row for row in _light(newest)}


def is_of_training(baseline: Baseline) -> bool:
    """Whether the model may have been fitted to its rows: then it is better on them than on others.

    Also where the same file was registered both as a training and as a reference set.
    """
    if baseline.origin != Origin.REFERENCE or baseline.dataset is None:
        return baseline.origin == Origin.TRAINING
    return Dataset.objects.filter(
        model=baseline.dataset.model_id,
        role=DatasetRole.TRAINING,
        fingerprint=baseline.dataset.fingerprint,
    ).exists()


def of_version(version: Version) -> QuerySet[Baseline]:
    return _light(version.baselines.select_related("dataset", "job").order_by("-number"))


def shape(baseline: Baseline) -> Frozen:
    """The frozen part of a ready baseline. It never changes, so that it is read once a process."""
    return _shape(baseline.pk)


@dataclass(frozen=True)
class ColumnFacts:
    """What people ask of one column of a frozen baseline."""

    name: str
    role: str
    kind: str
    bins: dict[str, int]
    counters: dict[str, int]
    natural: dict[str, float]
    importance: float | None

    rows: int

    @property
    def label(self) -> str:
        return self.name.removeprefix(INPUT)

    @property
    def missing(self) -> float | None:
        return self.counters["missing"] / self.rows if self.rows else None

    @property
    def shown(self) -> list[float | None]:
        """The bins for a small drawing; those of what the reference never had are empty."""
        counts = list(self.bins.values())
        return [float(count) for count in (counts[:-1] if self.kind in WITH_UNSEEN else counts)]


def columns_of(baseline: Baseline) -> list[ColumnFacts]:
    """The columns by importance, outputs last; none of one that is not frozen."""
    if baseline.state != State.READY:
        return []
    frozen = shape(baseline)
    found = [_column(frozen, column) for column in frozen.layout.columns]
    return sorted(found, key=lambda column: (column.role != "input", -(column.importance or 0.0)))


def _column(frozen: Frozen, column: Column) -> ColumnFacts:
    start, stop = frozen.layout.slices[column.name]
    counts = frozen.counts[start : start + column.size].tolist()
    return ColumnFacts(
        name=column.name,
        role=column.role.value,
        kind=column.kind.value,
        bins=dict(zip(column.labels(), counts[: stop - start], strict=True)),
        counters=dict(zip(COUNTERS, counts[stop - start :], strict=True)),
        natural=frozen.natural.get(column.name, {}),
        importance=frozen.importance.get(column.name) if frozen.importance else None,
        rows=frozen.rows,
    )


def waiting() -> QuerySet[Version]:
    """Built versions of which a baseline is to be frozen.

    Each version gets a first one as soon as there is data; those that serve or were built last
    also get one of each newer reference set.
    """
    own = Baseline.objects.filter(version=OuterRef("pk"))
    told = own.exclude(origin=Origin.TRAFFIC)
    built = Build.objects.filter(version=OuterRef("pk"), status=BuildStatus.SUCCEEDED)
    rows = (
        Version.objects.living()
        .filter(Exists(built))
        .exclude(Exists(own.filter(state__in=UNFINISHED)))
        .annotate(
            reference_id=_newest(DatasetRole.REFERENCE),
            data_id=Coalesce("reference_id", _newest(DatasetRole.TRAINING)),
        )
        .annotate(
            has_any=Exists(told),
            has_this=Exists(own.filter(dataset=OuterRef("data_id"))),
            has_ready=Exists(told.filter(state=State.READY)),
            has_input=Exists(_inputs(OuterRef("pk"))),
        )
    )
    first = Q(has_any=False) & (Q(data_id__isnull=False) | Q(has_input=True))
    newer = Q(has_this=False, data_id__isnull=False) & (
        Q(reference_id__isnull=False) | Q(has_ready=False)
    )
    in_use = Q(pk__in=_serving()) | Q(pk__in=_built_last())
    return rows.filter(first | (newer & in_use)).select_related("model").order_by("-pk")


def data_of(version: Version) -> tuple[Origin, Dataset | None] | None:
    """Where the rows of its next baseline come from; None: nobody gave any.

    A reference set before what the version's own run logged, which is fetched first (no Dataset
    yet), before the model's newest training set.
    """
    rows = version.model.datasets.order_by("-pk")
    reference = rows.filter(role=DatasetRole.REFERENCE).first()
    if reference is not None:
        return Origin.REFERENCE, reference
    training = rows.filter(role=DatasetRole.TRAINING).first()
    has_input = _inputs(version.pk).exists()
    lost = version.baselines.filter(origin=Origin.TRAINING, state=State.FAILED).exists()
    if has_input and (training is None or not lost):
        return Origin.TRAINING, None
    return None if training is None else (Origin.TRAINING, training)


def input_of(version: Version) -> RunInput | None:
    """What its run logged and MLflow keeps: the training rows, if it says which these are."""
    found = list(_inputs(version.pk).order_by("pk"))
    training = [given for given in found if "train" in given.context.lower()]
    return next(iter([*training, *found]), None)


def positive_class(version: Version) -> str:
    """Which label the score speaks of, by the policy in force; "" when it does not say."""
    policy = version.model.policies.order_by("-number").first()
    return str((policy.document if policy else {}).get("positive_class") or "")


def _inputs(version: Any) -> QuerySet[RunInput]:
    return RunInput.objects.filter(version=version, source__regex=LOGGED_IN_MLFLOW)


def _newest(role: DatasetRole) -> Subquery:
    rows = Dataset.objects.filter(model=OuterRef("model"), role=role)
    return Subquery(rows.order_by("-pk").values("pk")[:1])


def _serving() -> QuerySet[Any, Any]:
    return Version.objects.filter(revisions__wanted="run").values("pk")


def _built_last() -> QuerySet[Any, Any]:
    """One version a model."""
    built = Version.objects.living().filter(builds__status=BuildStatus.SUCCEEDED)
    newest = built.order_by("model_id", "-registered_at", "-pk").distinct("model_id")
    return Version.objects.filter(pk__in=newest.values("pk")).values("pk")


def _light(rows: QuerySet[Baseline]) -> QuerySet[Baseline]:
    """Without the parts that grow with the columns."""
    return rows.defer("layout", "counts", "natural", "importance", "calibration")


@lru_cache(KEPT_SHAPES)
def _shape(pk: int) -> Frozen:
    row = Baseline.objects.filter(pk=pk, state=State.READY).get()
    return Frozen(
        layout=Layout.from_json(row.layout),
        counts=unpack64(row.counts),
        natural=row.natural,
        importance=row.importance,
        meaning=Meaning.from_json(row.meaning) if row.meaning else None,
        calibration=row.calibration,
        rows=row.rows,
    )
