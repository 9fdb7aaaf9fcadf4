"""Verbs on models, versions, data sets and policies."""

import hashlib
import logging
import os
import re
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.urls import reverse

from apps.accounts.models import User
from apps.accounts.selectors import teams_of
from apps.accounts.services import create_team
from apps.audit.services import record
from apps.core import live
from apps.core.dispatch import wake
from apps.core.errors import Refused
from apps.registry import mlflow_link, policy
from apps.registry.lifecycle import DatasetRole, Source
from apps.registry.models import (
    Alias,
    Dataset,
    Model,
    Policy,
    RunInput,
    Submission,
    Version,
    WebhookCall,
)

log = logging.getLogger(__name__)
EVERYONE = "everyone"
WEBHOOK_GRACE = timedelta(seconds=3)  # the sweep looks for lost calls, not for slow ones
KEPT_CALLS = timedelta(days=1)
MOST_DATASET_BYTES = 2 * 1024**3
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class ArtifactGone(Exception):
    """MLflow knows the version, but the files it was registered with are not there any more."""


class DatasetRefused(Refused):
    code = "dataset_invalid"


class NameRefused(Refused):
    code = "model_name_unusable"


def register_version(*, name: str, number: int, seen_by: Source, now: datetime) -> Version:
    """It takes a version of MLflow into the panel; one that is known is returned as it is.

    Raises: mlflow_link.NotThere, Unavailable; NameRefused for a name that no address can hold.
    """
    known = Version.objects.filter(model__name=name, number=number).first()
    if known is not None:
        return known
    if not NAME.fullmatch(name):
        raise NameRefused(
            f"The model name {name!r} cannot stand in an address: use letters, digits, . _ and -"
        )
    found = mlflow_link.version(name, number)
    run = mlflow_link.run(found["run_id"]) if found.get("run_id") else {}
    try:
        with transaction.atomic():
            return _take(found, run, seen_by, now)
    except IntegrityError:  # the webhook and the sweep at once: the other one has it
        return Version.objects.get(model__name=name, number=number)


def _take(found: dict[str, Any], run: dict[str, Any], seen_by: Source, now: datetime) -> Version:
    name, number = found["name"], int(found["version"])
    submission = Submission.objects.filter(model_name=name, number=number).first()
    sender = submission.user if submission else None
    model = Model.objects.filter(name=name).first()
    if model is None:
        model = _create_model(name, sender, now)
    version = Version.objects.create(
        model=model,
        number=number,
        run_id=found.get("run_id", ""),
        source=found.get("source", ""),
        description=found.get("description", ""),
        registered_at=mlflow_link.moment(found["creation_timestamp"]),
        registered_by=sender,
        seen_at=now,
        seen_by=seen_by,
        run=_summary(run),
    )
    for given in run.get("inputs", {}).get("dataset_inputs", []):
        dataset = given["dataset"]
        tags = {tag["key"]: tag["value"] for tag in given.get("tags", [])}
        RunInput.objects.create(
            version=version,
            name=dataset["name"],
            digest=dataset["digest"],
            context=tags.get("mlflow.data.context", ""),
            source=dataset.get("source", ""),
            profile={"profile": dataset.get("profile", ""), "schema": dataset.get("schema", "")},
        )
    record(
        "version.registered",
        version,
        actor=sender,
        now=now,
        model_name=name,
        reason=f"Seen by {seen_by}",
        evidence={"run_id": version.run_id, "source": version.source, "seen_by": seen_by},
    )
    for topic in (f"model:{name}", "home:all"):
        live.publish(topic)
    wake("builds.sweep")
    return version


def _create_model(name: str, sender: User | None, now: datetime) -> Model:
    team = teams_of(sender, "mlflow.write").order_by("pk").first() if sender else None
    model, created = Model.objects.get_or_create(
        name=name,
        defaults={"team": team or create_team(name=EVERYONE.capitalize()), "created_at": now},
    )
    if created:
        record("model.registered", model, actor=sender, now=now, model_name=name)
        _add_policy(model, policy.DEFAULT_TEXT, None, now)
    return model


def _summary(run: dict[str, Any]) -> dict[str, Any]:
    """What people ask of a training run, without MLflow's lists of keys and values."""
    data, info = run.get("data", {}), run.get("info", {})
    tags = {tag["key"]: tag["value"] for tag in data.get("tags", [])}
    return {
        "name": info.get("run_name", ""),
        "experiment_id": info.get("experiment_id", ""),
        "params": {p["key"]: p["value"] for p in data.get("params", [])},
        "metrics": {m["key"]: m["value"] for m in data.get("metrics", [])},
        "tags": {key: value for key, value in tags.items() if not key.startswith("mlflow.")},
        "commit": tags.get("mlflow.source.git.commit", ""),
        "script": tags.get("mlflow.source.name", ""),
    }


@transaction.atomic
def note_submission(*, name: str, number: int, user: User, now: datetime) -> None:
    """It remembers who sent a version through the panel, whichever of the two came first."""
    Submission.objects.get_or_create(
        model_name=name, number=number, defaults={"user": user, "at": now}
    )
    Version.objects.filter(model__name=name, number=number, registered_by=None).update(
        registered_by=user
    )
    team = teams_of(user, "mlflow.write").order_by("pk").first()
    others = Version.objects.filter(model__name=name).exclude(number=number)
    if team is not None and not others.exists():  # who sends a later one does not take it over
        Model.objects.filter(name=name, team__slug=EVERYONE).update(team=team)


@transaction.atomic
def take_webhook(*, delivery_id: str, name: str, number: int, now: datetime) -> bool:
    """It takes one checked delivery. False: this delivery was taken before."""
    WebhookCall.objects.filter(at__lt=now - KEPT_CALLS).delete()  # too old to be believed again
    _, new = WebhookCall.objects.get_or_create(delivery_id=delivery_id, defaults={"at": now})
    if new:
        wake("registry.register", name, number, Source.WEBHOOK)
    return new


def sweep(*, now: datetime) -> None:
    """It finds versions whose webhook was lost, keeps the webhook, and sets wanted aliases."""
    _keep_webhook()
    everything = now.minute % 10 == 0 and now.second < 10
    rows = mlflow_link.newest_versions(everything=everything)
    known = set(
        Version.objects.filter(model__name__in={row["name"] for row in rows}).values_list(
            "model__name", "number"
        )
    )
    for row in reversed(rows):
        age = now - mlflow_link.moment(row["creation_timestamp"])
        if (row["name"], int(row["version"])) not in known and age > WEBHOOK_GRACE:
            try:
                register_version(
                    name=row["name"], number=int(row["version"]), seen_by=Source.SWEEP, now=now
                )
            except (mlflow_link.NotThere, NameRefused) as why:
                log.warning("Version %s %s not taken: %s", row["name"], row["version"], why)
    for alias in Alias.objects.filter(Q(seen=None) | ~Q(seen=F("wanted"))).select_related("model"):
        confirm_alias(alias=alias)


def _keep_webhook() -> None:
    url = settings.PUBLIC_URL + reverse("mlflow-webhook")
    try:
        if mlflow_link.ensure_webhook(url, settings.MLFLOW_WEBHOOK_SECRET):
            log.info("Asked MLflow to call %s", url)
    except (mlflow_link.NotThere, mlflow_link.Refusal) as why:
        # An older server has no webhooks, or takes none of our address: the sweep does without.
        log.warning("MLflow takes no webhook to %s: %s", url, why)


@transaction.atomic
def set_alias(*, model: Model, name: str, number: int, now: datetime) -> None:
    """It wishes that MLflow's alias names this version; the sweep makes it so."""
    Alias.objects.update_or_create(
        model=model, name=name, defaults={"wanted": number, "changed_at": now}
    )
    wake("registry.sweep")


def confirm_alias(*, alias: Alias) -> None:
    """It sets one alias in MLflow and writes down what MLflow then says."""
    try:
        mlflow_link.set_alias(alias.model.name, alias.name, alias.wanted)
        seen = mlflow_link.alias(alias.model.name, alias.name)
    except (mlflow_link.NotThere, mlflow_link.Refusal) as why:
        Alias.objects.filter(pk=alias.pk, wanted=alias.wanted).update(error=str(why))
        return
    Alias.objects.filter(pk=alias.pk, wanted=alias.wanted).update(seen=seen, error="")
    live.publish(f"model:{alias.model.name}")


@transaction.atomic
def put_policy(*, model: Model, text: str, actor: User, now: datetime) -> Policy:
    """It makes `text` the model's policy. Raises: policy.PolicyRefused with every mistake."""
    edition = _add_policy(model, text, actor, now)
    record(
        "policy.changed",
        model,
        actor=actor,
        now=now,
        model_name=model.name,
        evidence={"number": edition.number, "document": edition.document},
    )
    live.publish(f"model:{model.name}")
    wake("promotions.sweep")
    return edition


def _add_policy(model: Model, text: str, author: User | None, now: datetime) -> Policy:
    document = policy.parse(text)
    Model.objects.select_for_update().get(pk=model.pk)  # two editors: one number each
    last = Policy.objects.filter(model=model).order_by("-number").first()
    return Policy.objects.create(
        model=model,
        number=last.number + 1 if last else 1,
        text=text,
        document=document.model_dump(mode="json"),
        author=author,
        created_at=now,
    )


def register_dataset(
    *,
    model: Model,
    name: str,
    role: DatasetRole,
    file: IO[bytes],
    label_column: str,
    time_column: str,
    actor: User,
    now: datetime,
) -> Dataset:
    """It keeps a copy of a Parquet file as a Dataset; the same file again is the same Dataset.

    Raises: DatasetRefused for what is not Parquet, for columns that are not there, for no rows.
    """
    folder = settings.STACK.var / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    path = Path(temporary)
    try:
        fingerprint = _copy(file, handle)
        facts = _read_facts(path, label_column, time_column)
        kept = folder / f"{fingerprint.removeprefix('sha256:')}.parquet"
        path.chmod(0o644)
        path.replace(kept)
    finally:
        path.unlink(missing_ok=True)
    with transaction.atomic():
        dataset, new = Dataset.objects.get_or_create(
            model=model,
            name=name,
            role=role,
            fingerprint=fingerprint,
            defaults={
                "path": str(kept),
                "label_column": label_column,
                "time_column": time_column,
                "registered_by": actor,
                "created_at": now,
                **facts,
            },
        )
        if new:
            record(
                "dataset.registered",
                dataset,
                actor=actor,
                now=now,
                model_name=model.name,
                evidence={"fingerprint": fingerprint, "rows": dataset.rows, "role": role},
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


def _read_facts(path: Path, label_column: str, time_column: str) -> dict[str, Any]:
    try:
        table = pq.ParquetFile(path)
        names = table.schema_arrow.names
    except (pa.ArrowInvalid, OSError) as broken:
        raise DatasetRefused(f"The file is not readable as Parquet: {broken}") from broken
    if table.metadata.num_rows == 0:
        raise DatasetRefused("The file holds no rows")
    for what, column in (("label", label_column), ("time", time_column)):
        if column and column not in names:
            raise DatasetRefused(
                f"There is no {what} column {column!r}; the columns are {', '.join(names)}"
            )
    facts: dict[str, Any] = {
        "rows": table.metadata.num_rows,
        "columns": [{"name": f.name, "type": str(f.type)} for f in table.schema_arrow],
    }
    if time_column:
        facts |= _time_span(path, time_column)
    return facts


def _time_span(path: Path, column: str) -> dict[str, datetime]:
    """The first and last moment that the rows speak of; nothing where they name none."""
    try:
        values = pq.read_table(path, columns=[column]).column(0)
        if not pa.types.is_temporal(values.type):
            return {}
        exact = getattr(values.type, "unit", "") != "ns"  # what is finer than we keep is cut
        times = values.drop_null().cast(pa.timestamp("us", tz="UTC"), safe=exact)
        span = pc.min_max(times).as_py()
    except pa.ArrowNotImplementedError:
        return {}  # a time of day, or a duration
    except (ValueError, OverflowError, OSError) as broken:  # ArrowInvalid is a ValueError
        raise DatasetRefused(f"The times in {column!r} are not readable: {broken}") from broken
    if span["min"] is None:
        return {}
    return {"time_from": span["min"], "time_to": span["max"]}


def download_artifacts(version: Version, into: Path) -> None:
    """It fetches the version's files from MLflow into a directory.

    Raises: Unavailable when MLflow is down, ArtifactGone when the files are not there any more.
    """
    into.mkdir(parents=True, exist_ok=True)
    try:
        mlflow_link.download(version.model.name, version.number, into)
    except mlflow_link.NotThere as gone:
        raise ArtifactGone(f"MLflow has no files for {version}: {gone}") from gone
