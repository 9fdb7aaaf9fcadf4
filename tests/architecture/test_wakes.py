"""A task is woken by name, so a misspelled name would only be noticed by work that never runs."""

import ast
from pathlib import Path

from mlops_portal.celery import app as celery

ROOT = Path(__file__).parent.parent.parent


def woken() -> set[str]:
    """The names in the calls `wake("...")` of the source; f-strings are job kinds + ".run"."""
    names = set()
    for path in (ROOT / "apps").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "wake"
                and isinstance(node.args[0], ast.Constant)
            ):
                names.add(str(node.args[0].value))
    return names


def test_every_woken_name_is_a_registered_task() -> None:
    celery.loader.import_default_modules()

    assert woken()
    assert woken() - set(celery.tasks) == set()


def test_every_job_kind_has_its_task() -> None:
    from apps.jobs.services import HANDLERS

    celery.loader.import_default_modules()

    assert {f"{kind}.run" for kind in HANDLERS} - set(celery.tasks) == set()


def test_every_scheduled_name_is_a_registered_task() -> None:
    celery.loader.import_default_modules()

    assert {row["task"] for row in celery.conf.beat_schedule.values()} - set(celery.tasks) == set()
