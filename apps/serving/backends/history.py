"""What is remembered of each replica between two looks. Pure: no clock, no files."""

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Past:
    """One replica's story, as far as the next look needs it."""

    started: float = 0  # epoch seconds of its present process' start
    failed: int = 0  # starts since it last answered
    restarts: int = 0
    ready_after: float | None = None  # seconds from its start until it was seen ready
    silent_since: float | None = None  # it had answered since its start, and does no more
    planned: str = ""  # why we end its present process
    cause: str = ""  # why its last process ended


def looked(past: Past | None, *, started: float, ready: bool, now: float, words: str) -> Past:
    """It adds one look. `words`: why the process before may have ended by itself."""
    if past is None:
        past = Past(started=started)
    elif started != past.started:
        cause = past.planned or words or "It ended by itself"
        past = Past(
            started=started,
            failed=past.failed + 1,
            restarts=past.restarts + (past.started > 0),
            cause=cause,
        )
    if ready:
        after = past.ready_after
        return replace(
            past,
            failed=0,
            silent_since=None,
            ready_after=max(0.0, now - started) if after is None else after,
        )
    if past.ready_after is not None and past.silent_since is None:
        return replace(past, silent_since=now)
    return past


def read(kept: Any) -> dict[str, Past]:
    """It reads what `written` made; whatever else stands there is forgotten."""
    if not isinstance(kept, dict):
        return {}
    found = {}
    for name, values in kept.items():
        try:
            found[name] = Past(**values)
        except TypeError:
            continue
    return found


def written(pasts: dict[str, Past]) -> dict[str, Any]:
    return {name: asdict(past) for name, past in pasts.items()}
