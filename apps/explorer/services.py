"""Verbs of the explorer: ask, replay, cancel, remove. What a job writes, it writes while it is its.

Results lie in var/searches, a file each, and go after a day or when they are too many.
"""

import logging
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from apps.accounts.models import User
from apps.audit.services import record
from apps.core import live
from apps.explorer import question as questions
from apps.explorer import results, selectors
from apps.explorer.lifecycle import KEPT, MOST_BYTES, MOST_WAITING, REMEMBERED, UNFINISHED, State
from apps.explorer.models import Replay, Search
from apps.explorer.question import Question, SearchRefused
from apps.jobs import services as jobs
from apps.jobs.lifecycle import Status
from apps.serving.models import Endpoint, Revision

log = logging.getLogger(__name__)

SEARCH = "explorer"
REPLAY = "explorer.replay"
ORPHANED = timedelta(hours=1)
Row = Search | Replay


@transaction.atomic
def ask(*, endpoint: Endpoint, question: Question, actor: User, now: datetime) -> Search:
    """It queues a search; the same one asked twice before it ended is one.

    Raises: SearchRefused for what cannot be asked of this log, and for too many at once.
    """
    known = selectors.columns(endpoint, question.since, question.until)
    questions.check(question, known, endpoint.revisions.values_list("number", flat=True))
    # The lock makes two clicks at once see each other.
    User.objects.select_for_update().get(pk=actor.pk)
    waiting = Search.objects.filter(asked_by=actor, state__in=UNFINISHED)
    asked = question.as_json()
    same = waiting.filter(endpoint=endpoint, question=asked).first()
    if same is not None:
        return same
    _check_waiting(waiting, "searches")
    search = Search.objects.create(
        endpoint=endpoint, question=asked, asked_by=actor, created_at=now
    )
    _queue(search, SEARCH, now)
    _record("log.searched", search, actor, now, asked)
    return search


@transaction.atomic
def replay(
    *,
    endpoint: Endpoint,
    revision: Revision,
    search: Search | None,
    request_id: str,
    actor: User,
    now: datetime,
) -> Replay:
    """It queues that recorded requests are asked of a revision: a search's, or one by its id.

    Raises: SearchRefused for a revision that does not run or is being judged by copies, a search
    without a result, and too many at once.
    """
    _check_revision(endpoint, revision)
    if search is not None and not search.has_result:
        raise SearchRefused(f"The {search} has no result to replay", "no_result")
    User.objects.select_for_update().get(pk=actor.pk)
    waiting = Replay.objects.filter(asked_by=actor, state__in=UNFINISHED)
    same = waiting.filter(search=search, request_id=request_id, revision=revision).first()
    if same is not None:
        return same
    _check_waiting(waiting, "replays")
    made = Replay.objects.create(
        endpoint=endpoint,
        revision=revision,
        search=search,
        request_id=request_id,
        asked_by=actor,
        created_at=now,
    )
    _queue(made, REPLAY, now)
    about = {"revision": revision.number, "search": search and search.pk, "request_id": request_id}
    _record("log.replayed", made, actor, now, about)
    return made


def _check_revision(endpoint: Endpoint, revision: Revision) -> None:
    if not selectors.can_be_asked(endpoint).filter(pk=revision.pk).exists():
        raise SearchRefused(
            f"Revision {revision.number} does not run now; only one that is ready can be asked",
            "revision_not_running",
        )
    if endpoint.shadow_wanted.get(str(revision.pk)):
        raise SearchRefused(
            f"Revision {revision.number} gets copies of requests, and what it does with them may"
            " be judged: replayed requests would be among them. Replay when that is over",
            "revision_gets_copies",
        )


def _check_waiting(waiting: QuerySet[Any], what: str) -> None:
    if waiting.count() >= MOST_WAITING:
        raise SearchRefused(
            f"{MOST_WAITING} of your {what} have not ended; wait for one or cancel it",
            "too_many_waiting",
        )


def _queue(row: Row, kind: str, now: datetime) -> None:
    row.job = jobs.enqueue(kind=kind, subject_id=row.pk, owning_team_id=row.owning_team_id, now=now)
    row.save(update_fields=["job"])
    _announce(row)


def begin(*, row: Row, running: jobs.Running, **facts: Any) -> bool:
    """It marks a search or replay as running. False: it has ended."""
    row.refresh_from_db()
    if State(row.state).is_final:
        return False
    note(row=row, running=running, state=State.RUNNING, reason="", **facts)
    return True


def note(*, row: Row, running: jobs.Running, **facts: Any) -> None:
    """It writes down what is known so far.

    Raises: jobs.services.LeaseLost when another worker has the job: its findings stand.
    """
    unfinished = type(row)._default_manager.filter(state__in=UNFINISHED)
    jobs.note(unfinished, row, running, **facts)
    _announce(row)


def finish(*, row: Row, running: jobs.Running, now: datetime, **facts: Any) -> None:
    """It says that the result is there, for a day."""
    note(
        row=row,
        running=running,
        state=State.DONE,
        finished_at=now,
        expires_at=now + KEPT,
        **facts,
    )
    make_room()


def end_search(search_id: int, status: Status, reason: str) -> None:
    """It writes down that the search's job ended without success."""
    _end(Search.objects.filter(pk=search_id), status, reason)


def end_replay(replay_id: int, status: Status, reason: str) -> None:
    """It writes down that the replay's job ended without success."""
    _end(Replay.objects.filter(pk=replay_id), status, reason)


def _end(rows: QuerySet[Any], status: Status, reason: str) -> None:
    state = State.CANCELLED if status is Status.CANCELLED else State.FAILED
    for row in rows.filter(state__in=UNFINISHED).select_related("job"):
        ended_at = row.job.finished_at if row.job else None
        rows.filter(pk=row.pk).update(state=state, reason=reason, finished_at=ended_at)
        _announce(row)


def cancel(*, row: Row, actor: User, now: datetime) -> None:
    """It stops a search or replay. Raises: jobs.services.JobRefused when it has ended."""
    if row.job is None or State(row.state).is_final:
        raise SearchRefused(f"The {row} has ended already", "ended")
    jobs.cancel(job=row.job, actor=actor, now=now)


def remove(*, row: Row) -> None:
    """It forgets one that has ended, and its result."""
    if not State(row.state).is_final:
        raise SearchRefused(f"The {row} has not ended; cancel it first", "not_ended")
    path = row.result_path
    topic = _topic(row)
    row.delete()
    _unlink([path])
    live.publish(topic)


def sweep(*, now: datetime) -> None:
    """It removes results whose time is over, what is in nobody's row, and long forgotten rows."""
    for model in (Search, Replay):
        rows = model._default_manager
        _forget(rows.filter(expires_at__lte=now).exclude(result_path=""))
        rows.filter(created_at__lt=now - REMEMBERED).exclude(state__in=UNFINISHED).delete()
    make_room()
    _remove_orphans(now)


def make_room() -> None:
    """It removes the oldest results until all together are within their bound."""
    kept: list[tuple[datetime, Row]] = [
        (row.finished_at, row)
        for model in (Search, Replay)
        for row in model._default_manager.exclude(result_path="")
        if row.finished_at is not None
    ]
    total = 0
    for _, row in sorted(kept, key=lambda pair: pair[0], reverse=True):
        total += row.size_bytes
        if total > MOST_BYTES:
            _forget(type(row)._default_manager.filter(pk=row.pk))


def _forget(rows: QuerySet[Any]) -> None:
    # First the row, then the file: a file without a row is found by the sweep.
    for row in rows:
        path = row.result_path
        type(row)._default_manager.filter(pk=row.pk).update(result_path="", size_bytes=0, digest="")
        _unlink([path])
        _announce(row)


def _remove_orphans(now: datetime) -> None:
    try:
        found = list(results.folder().iterdir())
    except FileNotFoundError:
        return
    before = (now - ORPHANED).timestamp()
    old = [path for path in found if path.lstat().st_mtime < before]
    used = selectors.using(path.name for path in old)
    for path in old:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in used:
            path.unlink(missing_ok=True)


def _unlink(names: Sequence[str]) -> None:
    for name in names:
        if name:
            (results.folder() / name).unlink(missing_ok=True)


def _record(verb: str, row: Row, actor: User, now: datetime, evidence: dict[str, Any]) -> None:
    record(
        verb,
        row,
        actor=actor,
        now=now,
        model_name=row.endpoint.model.name,
        environment=row.endpoint.environment.name,
        evidence=evidence,
    )


def _topic(row: Row) -> str:
    return f"{row._meta.model_name}:{row.pk}"


def _announce(row: Row) -> None:
    live.publish(_topic(row))
