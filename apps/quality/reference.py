"""What the quality of live predictions is held against: how good the version was elsewhere."""

from dataclasses import dataclass, field

from apps.baselines import selectors as baselines
from apps.baselines.meaning import Task
from apps.serving.models import Revision
from apps.validation import selectors as validation

OF_TRAINING = "The baseline is of rows that the model may have been trained on"


@dataclass(frozen=True)
class Reference:
    """Metric -> value, of labels that the model was not fitted to."""

    values: dict[str, float] = field(default_factory=dict)
    is_of_training: bool = False  # the baseline's rows; then no value is of them
    holdout: str = ""  # the data set of the validation that the values are of

    @property
    def note(self) -> str:
        """What people must know of the values, or why there are none."""
        if not self.is_of_training:
            return ""
        if self.holdout:
            return f"{OF_TRAINING}; references are of its validation on {self.holdout}"
        return (
            f"{OF_TRAINING}, so nothing is held against it. Validate the version on a holdout, or "
            "register a reference set that it was not trained on"
        )

    @property
    def estimate_note(self) -> str:
        """What is wrong with estimates that are calibrated by the baseline."""
        return f"{OF_TRAINING}, so estimates are too good" if self.is_of_training else ""


def of(revision: Revision | None) -> Reference:
    """It gives the measures of the baseline in force, or those of a validation.

    A forest is right on every row that it was trained on: held against that, it would be too bad
    for ever.
    """
    baseline = baselines.in_force(revision.version) if revision is not None else None
    if baseline is None or revision is None:
        return Reference()
    if not baselines.is_of_training(baseline):
        return Reference(dict(baseline.quality))
    if baseline.meaning.get("task") == Task.MULTICLASS:  # validation measures one class of many
        return Reference(is_of_training=True)
    values, holdout = validation.on_holdout(revision.version)
    return Reference(values, True, holdout)
