"""Where the rows of a data set lie when they are not sent: addresses, and who may name them."""

import json
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from django.conf import settings

from apps.registry import mlflow_link
from apps.registry.models import Model, Version
from apps.registry.tables import DatasetRefused

PROXIED = "/api/2.0/mlflow-artifacts/artifacts/"
SCHEMES = ("mlflow-artifacts", "runs", "models")
PORTS = {"http": 80, "https": 443}
ENDINGS = (".parquet", ".csv")


@dataclass(frozen=True)
class Place:
    """A file in MLflow, by an address that its own command understands."""

    uri: str
    name: str


def of_input(source: str) -> str:
    """The address in MLflow of a data set that a run logged; "" when it lies elsewhere.

    MLflow's own classes of sources write {"uri": …} or {"url": …}; its client refuses to make one
    of `runs:/…`, so who logs a file of a run names it by the address that MLflow serves it at.
    """
    try:
        said = json.loads(source)
    except ValueError:
        said = source
    found = (said.get("uri") or said.get("url")) if isinstance(said, dict) else said
    uri = _unproxied(found) if isinstance(found, str) else ""
    is_file = uri.lower().endswith(ENDINGS)
    return uri if is_file and uri.partition(":/")[0] in SCHEMES else ""


def allowed_place(uri: str, model: Model) -> Place:
    """It gives the file that the address names, when it is one of this model's team.

    Raises: DatasetRefused; Unavailable when MLflow does not answer.
    """
    scheme, _, rest = uri.partition(":/")
    parts = [unquote(part) for part in rest.strip("/").split("/")]
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise DatasetRefused(f"The address {uri!r} names no file")
    place = Place(f"{scheme}:/{'/'.join(parts)}", parts[-1])
    if not place.name.lower().endswith(ENDINGS):
        raise DatasetRefused(f"The address {uri!r} names no Parquet or CSV file")
    if scheme == "runs" and len(parts) > 1 and _is_run_of_team(parts[0], model):
        return place
    if scheme == "models" and len(parts) > 1 and _is_model_of_team(parts, model):
        return place
    if scheme == "mlflow-artifacts":
        run = next((part for part in parts if _is_run_of_team(part, model)), "")
        root = _root_of(run) if run else ""
        if root and place.uri.startswith(f"{root}/"):
            return place
    raise DatasetRefused(
        f"{uri!r} is not a file of a run or a version of a model of the team {model.team}",
        "dataset_source_refused",
    )


def allowed_url(url: str) -> str:
    """It gives back an address of the hosts that data sets may be fetched from.

    Raises: DatasetRefused.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
        host = (parts.hostname or "").lower()
    except (ValueError, KeyError) as odd:
        raise DatasetRefused(f"The address {url!r} is not an http or https one") from odd
    if parts.username is not None or parts.password is not None:
        raise DatasetRefused("The address holds a user name or password, which others could read")
    shown = f"{f'[{host}]' if ':' in host else host}:{port}"
    if shown not in {one.strip().lower() for one in settings.DATASET_HOSTS}:
        raise DatasetRefused(
            f"The host {shown} is not among those that data sets may be fetched from; who runs "
            "the panel allows it with PORTAL_DATASET_HOSTS=host:port,host:port",
            "dataset_source_refused",
        )
    return url


def name_of(url: str) -> str:
    """The file's name, by which CSV is known."""
    return posixpath.basename(urlsplit(url).path)


def _unproxied(address: str) -> str:
    """The panel's MLflow gives artifacts out at an address of its own; it is the same file."""
    for base in (f"{settings.PUBLIC_URL}/mlflow", settings.MLFLOW_URL, mlflow_link.base_url()):
        if address.startswith(f"{base}{PROXIED}"):
            return f"mlflow-artifacts:/{address.removeprefix(f'{base}{PROXIED}')}"
    return address


def _is_run_of_team(run_id: str, model: Model) -> bool:
    if re.fullmatch(r"[0-9a-zA-Z_-]{1,64}", run_id) is None:
        return False
    return Version.objects.filter(run_id=run_id, model__team=model.team_id).exists()


def _is_model_of_team(parts: list[str], model: Model) -> bool:
    """`models:/<name>/<version>/…`, or `models:/m-<id>/…` of a version that was made of it."""
    owned = Version.objects.filter(model__team=model.team_id)
    if parts[0].startswith("m-") and owned.filter(source=f"models:/{parts[0]}").exists():
        return True
    if len(parts) < 3 or not parts[1].isdecimal():  # an alias may move to anything
        return False
    return owned.living().filter(model__name=parts[0], number=int(parts[1])).exists()


def _root_of(run_id: str) -> str:
    """Where MLflow keeps the run's artifacts; "" for a run that is gone."""
    try:
        root = str(mlflow_link.run(run_id)["info"].get("artifact_uri", ""))
    except (mlflow_link.NotThere, KeyError):
        return ""
    return root.rstrip("/")
