"""Words of the registry."""

from enum import StrEnum


class DatasetRole(StrEnum):
    TRAINING = "training"
    REFERENCE = "reference"  # what live data is compared with
    HOLDOUT = "holdout"  # what candidates are judged on


class Source(StrEnum):
    """How the panel came to know of a version."""

    WEBHOOK = "webhook"
    SWEEP = "sweep"  # a webhook was lost; the periodic look found it
