"""Asks a build's model for its answers to a table, in the model's own environment."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from django.conf import settings

from apps.builds.models import Build
from apps.core import sandbox
from apps.jobs.services import Failed

TIMEOUT_SECONDS = 1800.0
MEMORY_BYTES = 8 * 1024**3


@dataclass(frozen=True)
class Asked:
    """The rows that a model is asked about."""

    table: pa.Table
    key: str  # names exactly these rows; blank: their answers are not kept
    name: str  # of the data set, for people
    label_column: str = ""  # never given to the model


@dataclass(frozen=True)
class Answers:
    """One prediction a row of the table, in its order."""

    predictions: list[Any]
    seconds: float
    kept: bool  # they were computed by an earlier call


def of(
    *,
    build: Build,
    asked: Asked,
    tick: Callable[[], None],
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Answers:
    """It returns the build's predictions; the same bundle on the same rows is asked once.

    Raises: jobs.services.Failed when the model does not answer these rows, or takes their label.
    """
    columns = _columns(build, asked)
    place = _place(build, asked)
    kept = _read(place, asked.table.num_rows) if place else None
    if kept is not None:
        return Answers(kept["predictions"], kept["seconds"], kept=True)
    if not Path(build.bundle_path).is_dir():
        raise Failed(f"The bundle of {build.version} is not on this machine; build it again")
    with tempfile.TemporaryDirectory(prefix="portal-predict-") as name:
        report, raw = _ask(build, asked, columns, Path(name), tick, timeout_seconds)
    if not report.get("ok"):
        error = report.get("error") or {}
        said = f"{error.get('type', '')}: {error.get('message', '')}".strip(": ")[:2000]
        raise Failed(f"{build.version} did not answer the data set {asked.name}. {said}")
    if place:
        _keep(place, raw)
    return Answers(report["predictions"], report["seconds"], kept=False)


def features(build: Build, columns: list[str], *, label_column: str = "") -> list[str]:
    """The columns that the model is given of those that are there.

    A model is given what it declares; without a declaration, everything but the label.
    """
    declared = _declared(build)
    if not declared:
        return [name for name in columns if name != label_column]
    there = set(columns)
    return [column["name"] for column in declared if column["name"] in there]


def _declared(build: Build) -> list[dict[str, Any]]:
    return [column for column in build.signature.get("inputs") or [] if column.get("name")]


def _columns(build: Build, asked: Asked) -> list[str]:
    declared, there = _declared(build), asked.table.column_names
    given = features(build, there, label_column=asked.label_column)
    if asked.label_column and asked.label_column in (column["name"] for column in declared):
        # It would be given the answers, and pass every gate with them.
        raise Failed(
            f"{build.version} takes the label column {asked.label_column} as an input; "
            "train without it"
        )
    missing = [
        column["name"]
        for column in declared
        if column["name"] not in there and column.get("required", True)
    ]
    if missing:
        known = ", ".join(name for name in there if name != asked.label_column)
        raise Failed(
            f"{build.version} needs the columns {', '.join(missing)}, which the data set "
            f"{asked.name} lacks; it has {known}"
        )
    return given


def _place(build: Build, asked: Asked) -> Path | None:
    if not asked.key:
        return None
    folder: Path = settings.STACK.var / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{build.digest.removeprefix('sha256:')}-{asked.key[:32]}.json"


def _ask(
    build: Build,
    asked: Asked,
    columns: list[str],
    work: Path,
    tick: Callable[[], None],
    timeout_seconds: float,
) -> tuple[dict[str, Any], bytes]:
    data, out = work / "rows.json", work / "answers.json"
    data.write_bytes(orjson.dumps(_split(asked.table, columns), default=_plain))
    data.chmod(0o644)
    model = Path(build.bundle_path) / "model"
    given = ("--model", str(model), "--data", str(data), "--out", str(out))
    command = build.command("predict", *given)
    python = Path(command[0])
    done = sandbox.run(
        command,
        env=build.process_environment() | {"HOME": str(work), "TMPDIR": str(work)},
        limits=build.limited(sandbox.Limits(memory_bytes=MEMORY_BYTES)),
        cwd=work,
        timeout_seconds=timeout_seconds,
        on_tick=tick,
        account=sandbox.account_for(python, owner=build.version.model_id, reads=[build.card_path]),
        reads=[*sandbox.read_by(python), Path(build.bundle_path)],
        writes=[work],
        mark=str(work),
    )
    try:
        raw = out.read_bytes()
        return json.loads(raw), raw
    except (OSError, ValueError):
        why = done.killed_why or f"The process ended with code {done.returncode}"
        words = f"{why}. {done.output_tail.strip()[-1000:]}"
        return {"ok": False, "error": {"type": "Stopped", "message": words}}, b""


def _split(table: pa.Table, columns: list[str]) -> dict[str, Any]:
    """The rows in the dataframe_split form, these columns only."""
    values = [table.column(name).to_pylist() for name in columns]
    return {"columns": columns, "data": list(zip(*values, strict=True))}


def _read(place: Path, rows: int) -> dict[str, Any] | None:
    try:
        kept: dict[str, Any] = json.loads(place.read_bytes())
    except (OSError, ValueError):
        return None
    return kept if len(kept.get("predictions", [])) == rows else None


def _keep(place: Path, raw: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=place.parent, suffix=".tmp", delete=False) as fresh:
        fresh.write(raw)
    Path(fresh.name).replace(place)


def _plain(value: Any) -> Any:
    """Parquet has decimals and bytes, which JSON has not."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else float(value)
