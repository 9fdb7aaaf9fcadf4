"""What is seen of replicas: answers, processes and their past in, sights out. Pure."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from apps.serving.backends import ReplicaSight, RevisionSight, WantedRevision, machine
from apps.serving.backends.history import Past
from apps.serving.backends.programs import name_of
from apps.serving.backends.supervisord import Process
from apps.serving.lifecycle import RevisionState

FAILED_STARTS = 2  # one end is an accident (killed), a second without an answer is a habit


@dataclass(frozen=True)
class Asked:
    """What one replica answered to /ready."""

    ready: bool
    wrong: str = ""  # it answers, but is not what should run
    in_flight: int | None = None


def answered(revision: WantedRevision, answer: tuple[int, bytes] | None) -> Asked:
    """It reads what a replica answered to /ready; None: nothing."""
    if answer is None or answer[0] != 200:
        return Asked(ready=False)
    try:
        said = json.loads(answer[1])
        digest, number = str(said["digest"]), str(said["revision"])
    except (ValueError, TypeError, KeyError):
        return Asked(ready=False, wrong="it does not say what it serves")
    if number != str(revision.id) or digest != revision.digest:
        return Asked(
            ready=False,
            wrong=f"it serves revision {number} with digest {digest}, wanted is {revision.id} "
            f"with {revision.digest}",
        )
    in_flight = said.get("in_flight")
    return Asked(ready=True, in_flight=in_flight if type(in_flight) is int else None)


def sight(
    revision: WantedRevision,
    asked: list[Asked],
    running: dict[str, Process] | None,
    pasts: Mapping[str, Past],
    *,
    short: str,
    last_words: Callable[[str], str],
) -> RevisionSight:
    """It sums up the replicas of a revision.

    `short`: what another one of them has no room for. `last_words`: what the one of a name wrote.
    """
    ready = sum(answer.ready for answer in asked)
    if not revision.replicas:
        return RevisionSight(RevisionState.ASLEEP)
    if ready >= revision.replicas:
        return RevisionSight(RevisionState.READY, ready)
    wrong = next((answer.wrong for answer in asked if answer.wrong), "")
    if wrong:
        return RevisionSight(RevisionState.FAILING, ready, f"A replica answers, but {wrong}")
    if running is None:
        return RevisionSight(RevisionState.UNKNOWN, ready, "The supervisor does not answer")
    for index, answer in enumerate(asked):
        name = name_of(revision.id, index)
        process = running.get(name)
        if answer.ready or process is None:
            continue
        failed = pasts[name].failed if name in pasts else 0
        if process.state == "FATAL" or failed >= FAILED_STARTS:
            reason = process.problem or last_words(name) or "It said nothing"
            state = RevisionState.DEGRADED if ready else RevisionState.FAILING
            return RevisionSight(state, ready, f"Replica {index} keeps ending: {reason}")
    if ready:
        reason = short or f"{ready} of {revision.replicas} replicas are ready"
        return RevisionSight(RevisionState.DEGRADED, ready, reason)
    return RevisionSight(RevisionState.STARTING, 0, short or "Its replicas load the model")


def replicas(
    revision: int,
    asked: Sequence[Asked],
    running: Mapping[str, Process],
    pasts: Mapping[str, Past],
    taken: Mapping[int, machine.Taken],
    read_at: float,
) -> list[ReplicaSight]:
    listed = []
    for index, answer in enumerate(asked):
        name = name_of(revision, index)
        past, process = pasts.get(name, Past()), running.get(name)
        took = taken.get(process.pid) if process is not None else None
        listed.append(
            ReplicaSight(
                index,
                answer.ready,
                past.started,
                past.ready_after,
                past.restarts,
                took.memory_mb if took else None,
                answer.in_flight,
                answer.wrong or past.cause,
                took.processor_seconds if took else None,
                read_at,
            )
        )
    return listed


def why_renew(revision: WantedRevision, seen: ReplicaSight, outdated: set[str]) -> str:
    if name_of(revision.id, seen.index) in outdated:
        return "It was replaced by one with the new configuration"
    most = revision.running.memory_mb
    if seen.memory_mb is not None and seen.memory_mb > most:
        return f"It took {size(seen.memory_mb)} of memory, more than its {size(most)}"
    return ""


def size(megabytes: int) -> str:
    return f"{megabytes / 1024:.1f} GiB" if megabytes >= 1000 else f"{megabytes} MiB"
