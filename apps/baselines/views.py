from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.models import User
from apps.accounts.selectors import may, require
from apps.baselines import selectors, services
from apps.baselines.models import Baseline
from apps.registry.models import Version

WORDS = {
    "roc_auc": "ROC AUC", "accuracy": "Accuracy", "precision": "Precision", "recall": "Recall",
    "f1": "F1", "log_loss": "Log loss", "brier": "Brier score", "mae": "Mean absolute error",
    "rmse": "Root mean squared error", "r2": "R²",
}  # fmt: skip
SHOWN = 12  # columns before the rest is folded away


@login_required
@require_safe
def baseline(request: HttpRequest, version_pk: int) -> HttpResponse:
    """The part of a version's page that says what its live data is compared with."""
    version = _version(request, version_pk, "view")
    found = list(selectors.of_version(version)[:20])
    in_force = next((row for row in found if row.state == "ready"), None)
    columns = selectors.columns_of(in_force) if in_force else []
    context: dict[str, Any] = {
        "version": version,
        "newest": found[0] if found else None,
        "in_force": in_force,
        "older": [row for row in found[1:] if row != in_force],
        "quality": _quality(in_force),
        "is_of_training": in_force is not None and selectors.is_of_training(in_force),
        "columns": columns[:SHOWN],
        "more": columns[SHOWN:],
        "data": selectors.data_of(version),
        "is_built": bool(version.digest),
        "may_freeze": may(request.user, "baseline.freeze", version),
        "commands": commands_for(version),
    }
    return render(request, "baselines/_baseline.html", context)


@login_required
@require_POST
def freeze(request: HttpRequest, version_pk: int) -> HttpResponse:
    version = _version(request, version_pk, "baseline.freeze")
    assert isinstance(request.user, User)
    queued = services.ask(version=version, actor=request.user, now=timezone.now())
    messages.success(request, f"Baseline {queued.number} of {version} is queued")
    return redirect(version)


def _quality(baseline: Baseline | None) -> list[tuple[str, float]]:
    """What it was on the reference's labels, in the order and words of people."""
    found = baseline.quality if baseline else {}
    return [(word, found[key]) for key, word in WORDS.items() if key in found]


def _version(request: HttpRequest, pk: int, verb: str) -> Version:
    rows = Version.objects.select_related("model__team")
    version = get_object_or_404(rows, pk=pk)
    require(request.user, verb, version)
    return version


def commands_for(version: Version) -> str:
    """What somebody types to give the rows that live data is to be compared with."""
    name = version.model.name
    return (
        "# a file: rows with labels that the model was not trained on, as of a holdout, or what\n"
        "# it saw when all was well; on rows it was trained on a model is better than on others\n"
        "curl -H 'Authorization: Bearer <your token>' -F name=reference -F role=reference \\\n"
        "  -F label_column=label -F time_column=time -F file=@reference.parquet \\\n"
        f"  {settings.PUBLIC_URL}/api/v1/models/{name}/datasets\n"
        "# or in the training script, so that each version brings its own; good for drift, but no\n"
        "# measure of quality\n"
        'train.to_parquet("train.parquet"); mlflow.log_artifact("train.parquet")\n'
        'kept = mlflow.get_artifact_uri("train.parquet").replace("mlflow-artifacts:",\n'
        f'  "{settings.PUBLIC_URL}/mlflow/api/2.0/mlflow-artifacts/artifacts")\n'
        'mlflow.log_input(mlflow.data.from_pandas(train, source=kept, name="train"),'
        ' context="training")'
    )
