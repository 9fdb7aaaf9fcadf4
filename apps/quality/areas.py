"""Areas under the curve from counts by bin, and how well they are known. Pure.

Rows of one bin count as ties.
"""

import numpy as np

from apps.quality.marks import Floats, Ints

FEW = 10  # of which the spread that was seen says too little
MORE = 3  # rows that were not seen: with fewer, intervals hold too little, with more need not be


def auc(positives: Floats | Ints, negatives: Floats | Ints) -> Floats:
    """The area under the curve from counts by bin, along the last axis; ties count half."""
    below = np.cumsum(negatives, axis=-1) - negatives
    pairs = positives.sum(axis=-1) * negatives.sum(axis=-1)
    won = (positives * (below + negatives / 2)).sum(axis=-1)
    return divided(won, pairs)


def divided(part: Floats | Ints, whole: Floats | Ints, empty: float = np.nan) -> Floats:
    """It divides; where nothing is to be divided by it gives `empty`."""
    shares: Floats = np.divide(part, whole, out=np.full(np.shape(whole), empty), where=whole > 0)
    return shares


def known_as(positives: Ints, negatives: Ints, area: float) -> float:
    """As how many rows of which each counts 0 or 1 know as much of one area: (1, bins) each.

    The effective number (Kish 1965) that DeLong's (1988) variance gives, with `MORE` rows that were
    not seen. At least that of the rarer class: no variance is larger (van Dantzig 1951).
    """
    own, others = _placed(positives, negatives)
    variance = float((_with_more(positives, own) + _with_more(negatives, others))[0])
    return max(area * (1 - area) / variance, float(min(positives.sum(), negatives.sum())))


def errors(positives: Ints, negatives: Ints) -> tuple[Floats, Floats]:
    """The variance of each area: its positives' part and its negatives' (DeLong 1988)."""
    below, above = _placed(positives, negatives)
    own = _spread(positives, below) / positives.sum(axis=-1)
    return own, _spread(negatives, above) / negatives.sum(axis=-1)


def _with_more(counts: Ints, values: Floats) -> Floats:
    """The variance of the mean of values within 0 and 1, as if `MORE` rows had been seen too.

    Those have the largest spread there can be about a mean (Bhatia and Davis 2000), by the rule of
    succession (Laplace 1774). Of 10 to 30 rows of a good model, the few that say how wrong it can
    be are often not there yet: without more rows than were seen intervals held 65 to 95 %.
    """
    n, mean, spread = _moments(counts, values)
    return ((n - 1) * spread + MORE * _most(n, mean)) / (n - 1 + MORE) / n


def _placed(positives: Ints, negatives: Ints) -> tuple[Floats, Floats]:
    """Bin by bin: the share of negatives below it, and of positives above it; ties count half."""
    of, against = positives.sum(axis=-1), negatives.sum(axis=-1)
    below = np.cumsum(negatives, axis=-1) - negatives / 2
    above = of[:, None] - np.cumsum(positives, axis=-1) + positives / 2
    return below / against[:, None], above / of[:, None]


def _spread(counts: Ints, values: Floats) -> Floats:
    """The variance of values within 0 and 1 that are there so many times, along the last axis.

    One value has none, and few or all at an end hardly any, so that intervals of rare classes
    claimed to know what one label said. Of these it is at least the most that values within 0 and
    1 can have (Bhatia and Davis 2000) about their mean by the rule of succession (Laplace 1774).
    """
    n, means, spread = _moments(counts, values)
    unsure = (n < FEW) | (means <= 0) | (means >= 1)
    return np.where(unsure, np.maximum(spread, _most(n, means)), spread)


def _moments(counts: Ints, values: Floats) -> tuple[Ints, Floats, Floats]:
    """How many values there are, their mean and their variance, along the last axis."""
    n = counts.sum(axis=-1)
    means = (counts * values).sum(axis=-1) / n
    spread: Floats = (counts * (values - means[:, None]) ** 2).sum(axis=-1) / np.maximum(n - 1, 1)
    return n, means, spread


def _most(n: Ints, means: Floats) -> Floats:
    supposed = (n * means + 1) / (n + 2)
    most: Floats = supposed * (1 - supposed)
    return most


def ties(positives: Ints, negatives: Ints) -> float:
    """How far areas may be off on the average, as rows of one bin count as ties."""
    tied = (positives * negatives).sum(axis=-1)
    return float((tied / (positives.sum(axis=-1) * negatives.sum(axis=-1))).mean() / 2)
