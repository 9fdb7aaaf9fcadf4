"""Real bundles: real files, real resolution, real environments, real processes."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from apps.accounts.models import User
from apps.audit.models import Event
from apps.builds import selectors
from apps.builds.lifecycle import BuildStatus
from apps.registry.models import Version
from model_server.digest import digest, manifest
from tests.builds import artifacts
from tests.builds.cast import Store, build, lines

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_version_becomes_a_bundle_that_answers(
    version: Version, store: Store, now: datetime
) -> None:
    source = artifacts.write(store.place(version))

    made = build(version, now)

    assert (made.status, made.reason, made.failure) == (BuildStatus.SUCCEEDED, "", "")
    bundle = Path(made.bundle_path)
    card = json.loads((bundle / "bundle.json").read_text())
    assert card["digest"] == made.digest == "sha256:" + bundle.name
    assert card["model_digest"] == made.model_digest == digest(manifest(source))
    assert (bundle / "requirements.lock").read_text() == made.lock
    assert "scikit-learn==1.9.1" in made.lock and "--hash=sha256:" in made.lock
    assert {"name": "scikit-learn", "version": "1.9.1"} in made.packages
    assert (made.python_version, made.python_wanted) == ("3.11.7", "3.11.7")
    assert made.flavors == ["python_function", "sklearn"]
    assert [column["name"] for column in made.signature["inputs"]] == ["distance", "hour"]
    assert made.probe["ok"] and made.probe["example"]["rows"] == 2
    assert made.probe["loader"] == "sklearn-direct"
    version.refresh_from_db()
    assert version.digest == made.digest
    assert selectors.latest_success(version) == made
    verbs = Event.objects.filter(object_type="build").order_by("pk").values_list("verb", flat=True)
    assert list(verbs) == ["build.started", "build.succeeded"]
