"""Verbs on data sets."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq
from django.conf import settings
from django.db import transaction

from apps.accounts.models import User
from apps.audit.services import record
from apps.core import live
from apps.registry import csv_files, downloads, mlflow_link, sources, tables
from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Dataset, Model, RunInput
from apps.registry.tables import DatasetRefused

MOST_DATASET_BYTES = 2 * 1024**3
FETCH_SECONDS = 60.0  # of a data set that an address names, while its caller waits


def register_dataset(
    *,
    model: Model,
    name: str,
    role: DatasetRole,
    file: IO[bytes],
    label_column: str,
    time_column: str,
    actor: User | None,
    now: datetime,
) -> Dataset:
    """It keeps a copy of a Parquet or CSV file as a Dataset; the same again is the same Dataset.

    The same is a file of the same content and columns as the newest of this name and role. CSV is
    kept as Parquet.

    Raises: DatasetRefused for what is neither, for columns that are not there, for no rows or too
    many of them.
    """
    folder = settings.STACK.var / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    path = Path(temporary)
    try:
        fingerprint = _copy(file, handle)
        if csv_files.is_csv(path, str(getattr(file, "name", ""))):
            fingerprint = _as_parquet(path)
        facts = tables.facts(path, label_column, time_column)
        kept = folder / f"{fingerprint.removeprefix('sha256:')}.parquet"
        path.chmod(0o644)
        path.replace(kept)
    finally:
        path.unlink(missing_ok=True)
    said: dict[str, Any] = {
        "model": model, "name": name, "role": role, "fingerprint": fingerprint,
        "label_column": label_column, "time_column": time_column,
    }  # fmt: skip
    with transaction.atomic():
        return _keep_dataset(said, actor, now, path=str(kept), **facts)


def register_dataset_from(
    *,
    model: Model,
    uri: str,
    actor: User | None,
    now: datetime,
    tick: Callable[[], None] | None = None,
    timeout_seconds: float = FETCH_SECONDS,
    **said: Any,
) -> Dataset:
    """It fetches the file that the address names, and registers it.

    `said`: name, role, label_column and time_column. An address of MLflow must be one of the
    team's own runs or versions, any other of a host of PORTAL_DATASET_HOSTS.

    Raises: DatasetRefused; Unavailable when MLflow does not answer; what `tick` raises.
    """
    if uri.partition(":/")[0] in sources.SCHEMES:
        place = sources.allowed_place(uri, model)
        with tempfile.TemporaryDirectory(prefix="portal-dataset-") as folder:
            path = _fetched(place.uri, Path(folder), tick, timeout_seconds)
            with path.open("rb") as file:
                return register_dataset(model=model, file=file, actor=actor, now=now, **said)
    with downloads.opened(
        sources.allowed_url(uri), most_bytes=MOST_DATASET_BYTES, timeout_seconds=timeout_seconds
    ) as file:
        return register_dataset(model=model, file=file, actor=actor, now=now, **said)


def register_input(*, given: RunInput, now: datetime, tick: Callable[[], None]) -> Dataset:
    """It registers the file that a training run logged as a training set of the run's model.

    Raises: as `register_dataset_from`.
    """
    uri = sources.of_input(given.source)
    if not uri:
        raise DatasetRefused(f"Its rows do not lie in this MLflow, but in {given.source[:300]}")
    return register_dataset_from(
        model=given.version.model,
        uri=uri,
        actor=None,
        now=now,
        tick=tick,
        timeout_seconds=mlflow_link.DOWNLOAD_SECONDS,
        name=given.name[:200],
        role=DatasetRole.TRAINING,
        label_column="",
        time_column="",
    )


def _fetched(
    uri: str, folder: Path, tick: Callable[[], None] | None, timeout_seconds: float
) -> Path:
    try:
        return mlflow_link.download_file(
            uri, folder, tick=tick, timeout_seconds=timeout_seconds, most_bytes=MOST_DATASET_BYTES
        )
    except (mlflow_link.NotThere, mlflow_link.Refusal) as why:
        raise DatasetRefused(f"{uri} cannot be fetched: {why}") from why


def _as_parquet(path: Path) -> str:
    """It puts the rows of a CSV file into its place, and gives their fingerprint."""
    rows = path.with_suffix(".rows.tmp")
    try:
        csv_files.to_parquet(path, rows)
        rows.replace(path)
    finally:
        rows.unlink(missing_ok=True)
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _keep_dataset(said: dict[str, Any], actor: User | None, now: datetime, **facts: Any) -> Dataset:
    """Only the newest of a name can be the same again, since only the newest one counts."""
    model, name, role = said["model"], said["name"], said["role"]
    Model.objects.select_for_update().get(pk=model.pk)  # the same file twice at once: one row
    newest = Dataset.objects.filter(model=model, name=name, role=role).order_by("-pk").first()
    if newest is not None and all(getattr(newest, field) == is_ for field, is_ in said.items()):
        return newest
    dataset = Dataset.objects.create(**said, registered_by=actor, created_at=now, **facts)
    told = ("fingerprint", "rows", "role", "label_column", "time_column")
    record(
        "dataset.registered",
        dataset,
        actor=actor,
        now=now,
        model_name=model.name,
        evidence={field: getattr(dataset, field) for field in told},
    )
    live.publish(f"model:{model.name}")
    return dataset


def _copy(file: IO[bytes], handle: int) -> str:
    mark, size = hashlib.sha256(), 0
    with os.fdopen(handle, "wb") as out:
        while chunk := file.read(1 << 20):
            size += len(chunk)
            if size > MOST_DATASET_BYTES:
                raise DatasetRefused("The file is larger than 2 GiB; register a sample of it")
            mark.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return f"sha256:{mark.hexdigest()}"


def open_dataset(dataset: Dataset) -> pq.ParquetFile:
    """It opens the kept file, to be read in batches.

    Raises: FileNotFoundError; DatasetRefused for more rows than anything may go through.
    """
    return tables.open_table(Path(dataset.path))
