"""Words of quality: what becomes of a label that was sent in."""

from enum import StrEnum


class State(StrEnum):
    WAITING = "waiting"  # its prediction stands in no file of rows yet
    JOINED = "joined"  # counted with the prediction that it is of
    UNKNOWN = "unknown"  # no such prediction was found as long as one was looked for
    WRONG_TYPE = "wrong_type"  # no label of this model: text for a number, a class it has not


class Fate(StrEnum):
    """What a label that was sent meant against what was known of its prediction."""

    ACCEPTED = "accepted"  # the first
    REPEATED = "repeated"  # the same again
    CORRECTED = "corrected"  # another one, observed later
    OLDER = "older"  # another one, observed before what is known: ignored


class Kind(StrEnum):
    """What of the rows with labels is summed."""

    SCORES = "scores"  # two classes, with the probability of the positive one
    CLASSES = "classes"
    PROBABILITIES = "probabilities"  # more than two classes, with the probability of each
    VALUES = "values"  # regression
