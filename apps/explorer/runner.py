"""Runs a search: the scan in a process of its own, what it tells written down as it goes."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from django.conf import settings
from django.template.defaultfilters import pluralize
from django.utils import timezone

from apps.core import sandbox
from apps.core.sandbox import Finished, Limits
from apps.explorer import results, scan, selectors, services
from apps.explorer.lifecycle import MOST_BYTES, MOST_SPILL_MB
from apps.explorer.models import Search
from apps.explorer.question import from_json
from apps.explorer.scan import Progress, Spec
from apps.jobs.services import Failed, Running

GRACE_SECONDS = 30  # the scan ends by itself when its time is over; this is for one that hangs
NO_ROOM = "The disk has no room for the result. Ask for fewer rows, or ask whoever runs the portal"
ROOT = Path(scan.__file__).parents[2]


def work(search_id: int, running: Running) -> None:
    """It looks through the log and leaves the result; a second attempt starts anew.

    Raises: jobs.services.Failed when it cannot be done as it was asked; Cancelled, LeaseLost.
    """
    search = Search.objects.select_related("endpoint").get(pk=search_id)
    files = selectors.files(search.endpoint, from_json(search.question))
    if not services.begin(row=search, running=running, files_total=len(files), files_done=0):
        return  # the attempt before was lost after it had finished
    place = results.folder() / f"work-{search.pk}-{running.job.attempt}"
    spec = Spec(
        question=search.question,
        files=files,
        work=str(place),
        result=str(place / "result"),
        progress=str(place / "progress.json"),
        memory_mb=settings.EXPLORER_MEMORY_MB,
        spill_mb=MOST_SPILL_MB,
        threads=settings.EXPLORER_THREADS,
        seconds=settings.EXPLORER_SECONDS,
    )
    try:
        _finish(search, running, spec, _scan(search, running, spec))
    except OSError as failed:
        if not scan.is_of_room(failed):
            raise
        raise Failed(NO_ROOM) from failed
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _scan(search: Search, running: Running, spec: Spec) -> Progress:
    place = Path(spec.work)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, mode=0o700)
    asked = place / "spec.json"
    asked.write_text(json.dumps(asdict(spec)))
    ended = sandbox.run(
        [sys.executable, "-P", "-m", scan.__name__, str(asked)],
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"},
        limits=Limits(
            memory_bytes=settings.EXPLORER_MEMORY_MB << 20, file_bytes=MOST_BYTES
        ).of_data(),
        cwd=ROOT,
        timeout_seconds=spec.seconds + GRACE_SECONDS,
        on_tick=_ticker(search, running, spec),
        mark=f"explorer-{search.pk}",
    )
    told = _progress(spec)
    if not ended.ok or told is None or not told.finished:
        raise Failed(_why(ended, spec))
    return told


def _ticker(search: Search, running: Running, spec: Spec) -> Callable[[], None]:
    written: list[Progress | None] = [None]

    def tick() -> None:
        running.check()
        told = _progress(spec)
        if told is not None and told != written[0]:
            written[0] = told
            services.note(row=search, running=running, files_done=told.done, found=told.found)

    return tick


def _progress(spec: Spec) -> Progress | None:
    try:
        return Progress(**json.loads(Path(spec.progress).read_text()))
    except FileNotFoundError:
        return None


def _why(ended: Finished, spec: Spec) -> str:
    narrow = "Ask for fewer rows or a shorter time"
    if ended.killed_why:
        return f"{ended.killed_why}. {narrow}"
    if ended.returncode == scan.NO_ROOM:
        return NO_ROOM
    if ended.returncode == scan.SPILLED:
        return (
            f"It needed more than {spec.memory_mb} MB of memory and {spec.spill_mb:,} MB on the"
            f" disk beside it. {narrow}"
        )
    # A library that gets no memory may end the process by a signal.
    if ended.returncode == scan.OUT_OF_MEMORY or ended.returncode < 0:
        return f"It needed more than {spec.memory_mb} MB of memory. {narrow}"
    last = ended.output_tail.strip().splitlines()[-1:] or ["it said nothing"]
    return f"The search broke: {last[0][:500]}"


def _finish(search: Search, running: Running, spec: Spec, told: Progress) -> None:
    running.check()
    result = Path(spec.result)
    if told.shown:
        kept = results.folder() / f"{search.pk}{results.SUFFIX}"
        digest = results.keep(result, kept)
        size = kept.stat().st_size
        facts = {"result_path": kept.name, "size_bytes": size, "digest": digest}
    else:
        facts = {"result_path": "", "size_bytes": 0, "digest": ""}
    services.finish(
        row=search,
        running=running,
        now=timezone.now(),
        files_done=told.done,
        found=told.found,
        shown=told.shown,
        truncated=told.found > told.shown or bool(told.stopped),
        reason=_left_out(told, spec),
        **facts,
    )
    rows, files = f"row{pluralize(told.found)}", f"file{pluralize(told.total)}"
    running.log(f"Found {told.found:,} {rows} in {told.done} of {told.total} {files}")


def _left_out(told: Progress, spec: Spec) -> str:
    """It says in words what the result does not hold."""
    words = []
    files = f"file{pluralize(told.total)}"
    if told.stopped == "time":
        words.append(
            f"Stopped after {spec.seconds:g} s with {told.done} of {told.total} {files} looked"
            " through. Ask for a shorter time to see all of it"
        )
    if told.stopped == "enough":
        left = told.total - told.done
        hold = pluralize(left, "holds,hold")
        words.append(
            f"The newest rows that fit are here; {left} of {told.total} {files} {hold} only older"
            f" ones and {pluralize(left, 'was,were')} not looked through"
        )
    if told.gone:
        words.append(f"{told.gone} file{pluralize(told.gone)} went by age or size meanwhile")
    if told.broken:
        broken = len(told.broken)
        words.append(f"{broken} file{pluralize(broken)} could not be read: {told.broken[0]}")
    return ". ".join(words)
