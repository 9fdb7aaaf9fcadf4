"""The tiers of width in which sums are kept, and which of them cover a span of time. Pure.

A fine tier is kept for a short time; the coarser ones hold the same sums for longer.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

FOREVER = timedelta(days=36_500)
# Seconds of width -> how long it is kept.
ROLLUPS = {
    10: timedelta(days=8),  # a rollout's step may hold for seven, and is judged by all of it
    60: timedelta(days=14),
    300: timedelta(days=31),
    3_600: timedelta(days=400),
    86_400: FOREVER,
}
TALLIES = {
    60: timedelta(days=4),
    300: timedelta(days=31),
    3_600: timedelta(days=400),
    86_400: FOREVER,
}

Part = tuple[int, datetime, datetime]  # width, from, to


def oldest(kept: Mapping[int, timedelta], now: datetime) -> dict[int, datetime]:
    """It gives the first moment from which on each width is whole."""
    earliest = datetime(1970, 1, 1, tzinfo=UTC)
    return {
        width: earliest if age >= FOREVER else up(now - age, width) for width, age in kept.items()
    }


def cover(since: datetime, until: datetime, widths_kept: Mapping[int, datetime]) -> list[Part]:
    """It gives the coarsest spans that together are a window, in the order of time.

    Of the finest width those count that begin at or after `since` and before `until`.
    `widths_kept` says from when on each width is whole; each is a multiple of the next finer one.
    An edge that only a coarser width still has is widened outward to it.
    """
    widths = sorted(widths_kept, reverse=True)
    return _cover(up(since, widths[-1]), up(until, widths[-1]), widths, widths_kept)


def _cover(
    since: datetime, until: datetime, widths: Sequence[int], kept: Mapping[int, datetime]
) -> list[Part]:
    if until <= since:
        return []
    width, finer = widths[0], widths[1:]
    if not finer:
        return [(width, since, until)]
    finer_from = min(kept[one] for one in finer)
    is_whole = since >= finer_from  # the finer ones have all of it
    first, last = up(since, width) if is_whole else down(since, width), down(until, width)
    if is_whole and last <= first:
        return _cover(since, until, finer, kept)
    if last < finer_from:
        return [(width, first, up(until, width))]
    left = _cover(since, first, finer, kept)
    return [*left, (width, first, last), *_cover(last, until, finer, kept)]


def step_for(
    since: datetime, step_seconds: int, widths_kept: Mapping[int, datetime]
) -> tuple[int, int]:
    """It gives the step, no shorter than asked for, and the width that its points are sums of.

    Raises: ValueError for a step that is no multiple of the finest width, and for a time of which
    nothing is kept.
    """
    finest = min(widths_kept)
    if step_seconds <= 0 or step_seconds % finest:
        raise ValueError(f"The step must be a multiple of {finest} seconds")
    there = [width for width, first in sorted(widths_kept.items()) if first <= since]
    if not there:
        raise ValueError(f"Nothing is kept of {since:%Y-%m-%d}")
    whole = [width for width in there if step_seconds % width == 0]
    if whole:
        return step_seconds, whole[-1]
    longer = -(-step_seconds // there[0]) * there[0]  # of that time only longer spans are left
    return longer, max(width for width in there if longer % width == 0)


def down(moment: datetime, width: int) -> datetime:
    """It gives the start of the span that a moment lies in."""
    return _at(int(moment.timestamp() // width) * width)


def up(moment: datetime, width: int) -> datetime:
    """It gives the first start of a span that is not before a moment."""
    return _at(int(-(-moment.timestamp() // width)) * width)


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
