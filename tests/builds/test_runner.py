"""Real bundles: real files, real resolution, real environments, real processes."""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from django.conf import settings

from apps.accounts.models import User
from apps.audit.models import Event
from apps.builds import selectors
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.builds.steps import bundles, uv
from apps.core import sandbox
from apps.jobs.lifecycle import Status
from apps.notifications.models import Delivery
from apps.registry.models import Version
from model_server.digest import digest, manifest
from tests.builds import artifacts
from tests.builds.cast import Store, build, lines, make_version

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_version_becomes_a_bundle_that_answers(
    version: Version, store: Store, now: datetime
) -> None:
    source = artifacts.write(
        store.place(version), artifacts.fitted(), requirements=artifacts.SKLEARN
    )

    made = build(version, now)

    assert (made.status, made.reason, made.failure) == (BuildStatus.SUCCEEDED, "", "")
    bundle = Path(made.bundle_path)
    card = json.loads((bundle / "bundle.json").read_text())
    assert card["digest"] == made.digest == "sha256:" + bundle.name
    assert card["model_digest"] == made.model_digest == digest(manifest(source))
    assert made.files == manifest(source)
    assert (bundle / "requirements.lock").read_text() == made.lock
    assert "scikit-learn==1.9.1" in made.lock
    assert "--hash=sha256:" in made.lock
    assert {"name": "scikit-learn", "version": "1.9.1"} in made.packages
    assert (made.python_version, made.python_wanted) == (artifacts.PYTHON, artifacts.PYTHON)
    assert made.flavors == ["python_function", "sklearn"]
    assert [column["name"] for column in made.signature["inputs"]] == ["distance", "hour"]
    assert made.probe["ok"] is True
    assert made.probe["example"]["rows"] == 2
    assert made.probe["loader"] == "sklearn-short"
    assert set(made.durations) == {"fetch", "lock", "install", "seal", "probe"}
    version.refresh_from_db()
    assert version.digest == made.digest
    assert selectors.latest_success(version) == made
    assert verbs() == ["build.started", "build.succeeded"]
    assert made.job is not None
    assert made.job.status == Status.SUCCEEDED


def test_a_bundle_is_read_only_and_readable_by_every_account(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version))

    bundle = Path(build(version, now).bundle_path)

    modes = {path.stat().st_mode & 0o777 for path in bundle.rglob("*") if path.is_file()}
    assert modes == {0o444}
    assert {p.stat().st_mode & 0o777 for p in bundle.rglob("*") if p.is_dir()} == {0o555}


def test_an_equal_lock_shares_its_environment_and_takes_seconds(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version))
    first = build(version, now)
    other = make_version(number=2, now=now)
    artifacts.write(store.place(other), artifacts.bad())

    second = build(other, now)

    assert second.status == BuildStatus.SUCCEEDED
    assert second.environment_path == first.environment_path
    assert second.digest != first.digest
    assert second.durations["install"] < 2
    found = f"Found, from an earlier build of the same lock, {len(first.packages)} packages"
    assert any(line.startswith(found) for line in lines(second))


def test_a_rebuild_has_the_same_digest_until_the_artifacts_change(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version))
    first, again = build(version, now), build(version, now)
    shutil.rmtree(store.place(version))
    artifacts.write(store.place(version), artifacts.bad())

    changed = build(version, now)

    assert [first.number, again.number, changed.number] == [1, 2, 3]
    assert again.digest == first.digest
    assert again.bundle_path == first.bundle_path
    assert changed.digest != first.digest
    assert Path(first.bundle_path).is_dir()
    version.refresh_from_db()
    assert version.digest == changed.digest
    assert selectors.latest_success(version) == changed


def test_a_bundle_that_somebody_changed_is_put_right_by_the_next_build(
    version: Version, store: Store, now: datetime
) -> None:
    source = artifacts.write(store.place(version))
    first = build(version, now)
    pickle = Path(first.bundle_path) / "model" / "model.pkl"
    pickle.chmod(0o644)
    pickle.write_bytes(b"something else")

    again = build(version, now)

    assert again.bundle_path == first.bundle_path
    assert pickle.read_bytes() == (source / "model.pkl").read_bytes()


def test_a_model_that_does_not_load_fails_its_build_and_its_registrant_is_told(
    version: Version, store: Store, owner: User, now: datetime
) -> None:
    artifacts.write(store.place(version), pickled=b"this is no pickle")

    failed = build(version, now)

    assert (failed.status, failed.failure) == (BuildStatus.FAILED, "load")
    assert failed.reason.startswith("The model does not load: UnpicklingError")
    assert "Traceback" in failed.probe["error"]["traceback"]
    assert failed.job is not None
    assert (failed.job.status, failed.job.attempt) == (Status.FAILED, 1)
    mail = Delivery.objects.get()
    assert (mail.user, mail.subject) == (owner, "flight-delay v1 could not be built")
    assert failed.reason in mail.text
    version.refresh_from_db()
    assert version.digest == ""
    assert selectors.latest_success(version) is None
    event = Event.objects.get(verb="build.failed")
    assert (event.reason, event.evidence) == (failed.reason, {"failure": "load", "attempts": 1})


def test_a_model_that_does_not_answer_its_example_fails_its_build(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version), artifacts.Unwilling())

    failed = build(version, now)

    assert (failed.status, failed.failure) == (BuildStatus.FAILED, "example")
    assert failed.reason == (
        "The model does not answer its own input example: ValueError: carrier was never seen"
    )


def test_a_failed_rebuild_leaves_the_bundle_that_was_there(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version))
    good = build(version, now)
    shutil.rmtree(store.place(version))

    failed = build(version, now)

    assert failed.status == BuildStatus.FAILED
    assert selectors.latest_success(version) == good
    version.refresh_from_db()
    assert version.digest == good.digest


def test_a_model_that_ends_its_process_fails_to_load(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version), pickled=artifacts.on_load("import os; os._exit(7)"))

    failed = build(version, now)

    assert failed.failure == "load"
    assert "the process ended with code 7" in failed.reason


def test_the_model_sees_no_secret_of_the_panel(
    version: Version, store: Store, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "of the panel")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the artifact store")
    monkeypatch.setenv("UV_INDEX_PORTAL_PASSWORD", "of the index")
    told = "import os; raise RuntimeError(' '.join(sorted(os.environ)))"
    artifacts.write(store.place(version), pickled=artifacts.on_load(told))

    failed = build(version, now)

    seen = set(failed.probe["error"]["message"].split()) - {"LC_CTYPE", "USER"}
    assert seen == {
        "HOME", "LANG", "MLFLOW_DISABLE_TELEMETRY", "PATH", "PORTAL_PROCESS_OF",
        "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "TMPDIR",
    }  # fmt: skip
    assert "SECRET_KEY" not in uv.environment()
    assert "AWS_SECRET_ACCESS_KEY" not in uv.environment()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_model_runs_as_an_account_of_its_own_wherever_the_panels_python_lies(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version))

    built = build(version, now)

    assert built.probe["ran_as"] == f"model-{version.model_id}"
    assert built.probe["confined_by"] == sandbox.confinement()


@pytest.mark.skipif(not sandbox.confinement(), reason="the kernel has no Landlock")
def test_the_model_finds_no_file_of_the_panel(
    version: Version, store: Store, now: datetime
) -> None:
    secret = settings.STACK.var / "stack.json"
    told = f"raise RuntimeError(open({str(secret)!r}).read())"
    artifacts.write(store.place(version), pickled=artifacts.on_load(told))

    failed = build(version, now)

    assert failed.probe["error"]["message"] == f"[Errno 13] Permission denied: '{secret}'"


def test_files_that_vanished_fail_the_build(version: Version, store: Store, now: datetime) -> None:
    failed = build(version, now)

    assert (failed.status, failed.failure) == (BuildStatus.FAILED, "artifact")
    assert failed.reason == "MLflow has no files for flight-delay v1"


def test_a_link_among_the_artifacts_is_refused(
    version: Version, store: Store, now: datetime
) -> None:
    source = artifacts.write(store.place(version))
    (source / "more").symlink_to("/etc")

    failed = build(version, now)

    assert (failed.status, failed.failure) == (BuildStatus.FAILED, "artifact")
    assert failed.reason == "The artifacts cannot be shipped: more is a symbolic link"
    assert list(bundles.folder().glob(f"tmp-{failed.pk}-*")) == []


def verbs() -> list[str]:
    rows = Event.objects.filter(object_type=Build._meta.model_name).order_by("pk")
    return list(rows.values_list("verb", flat=True))
