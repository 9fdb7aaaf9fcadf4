"""Finds single requests in the prediction log and in what waits to be written into it."""

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from apps.core import duck
from apps.monitoring import parquet, segments

log = logging.getLogger(__name__)

MOST_ROWS = 20
MEMORY_MB = 512


def in_files(paths: Sequence[Path], request_id: str) -> list[dict[str, Any]]:
    """It searches Parquet files of the log."""
    try:
        return _in_files(paths, request_id)
    except duck.GONE:
        # The time of one was over between the look at it and the reading.
        return _in_files(paths, request_id)


def _in_files(paths: Sequence[Path], request_id: str) -> list[dict[str, Any]]:
    files = [str(path) for path in paths if path.exists()]
    if not files:
        return []
    with duck.opened(files, threads=1, memory_mb=MEMORY_MB) as connection:
        cursor = connection.execute(
            # As a number, since DuckDB hands out times with a zone only through another package.
            'select * replace (epoch_us("at") as "at")'
            " from read_parquet(?, hive_partitioning = false, union_by_name = true)"
            " where id = ? limit ?",
            [files, request_id, MOST_ROWS],
        )
        names = [column[0] for column in cursor.description or []]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for row in rows:
        row["at"] = parquet.EPOCH + timedelta(microseconds=row["at"])
        for column in ("request", "response"):
            row[column] = orjson.loads(row[column])
    return rows


def in_spool(spool: Path, revisions: Mapping[int, int], request_id: str) -> list[dict[str, Any]]:
    """It searches sealed segments; `revisions` gives each revision's version number."""
    found = []
    for revision, version in revisions.items():
        folder = spool / str(revision)
        for name in segments.listing(folder).sealed:
            segment = _read(folder / name)
            found += [
                _row(segment, place, revision, version)
                for place, known in enumerate(segment.id)
                if known == request_id
            ]
    return found[:MOST_ROWS]


def _read(path: Path) -> segments.Segment:
    try:
        return segments.read(path, whole=True)
    except (FileNotFoundError, segments.Unreadable):
        return segments.Segment()
    except Exception:
        # The collector sets it aside at its next look; what stands in the others is still found.
        log.exception("Segment %s could not be searched", path.name)
        return segments.Segment()


def _row(segment: segments.Segment, place: int, revision: int, version: int) -> dict[str, Any]:
    texts: dict[str, Any] = dict(zip(segments.TEXTS, segment.texts[place], strict=True))
    return {
        "id": segment.id[place],
        "at": parquet.EPOCH + timedelta(microseconds=segment.at_us[place]),
        "revision": revision,
        "version": version,
        "status": segment.status[place],
        "latency_us": segment.latency_us[place],
        "shadow": segment.shadow[place],
        "share": segment.share[place],
        **texts,
        "request": orjson.loads(texts["request"]),
        "response": orjson.loads(texts["response"]),
    }
