"""Foreign keys are imports that import-linter cannot see: they too point down the stack."""

import tomllib
from pathlib import Path

from django.apps import apps

ROOT = Path(__file__).parent.parent.parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
STACK = next(c["layers"] for c in CONTRACTS["contracts"] if c["name"].startswith("Apps form"))
HEIGHT = {app.strip(): -row for row, layer in enumerate(STACK) for app in layer.split("|")}


def test_foreign_keys_point_down_the_stack() -> None:
    ours = [model for model in apps.get_models() if model._meta.app_label in HEIGHT]
    upward = [
        f"{model._meta.label}.{field.name} -> {field.related_model._meta.label}"
        for model in ours
        for field in model._meta.get_fields()
        if field.is_relation
        and not field.auto_created
        and field.related_model in ours
        and HEIGHT[field.related_model._meta.app_label] > HEIGHT[model._meta.app_label]
    ]

    assert ours
    assert not upward, "\n".join(upward)
