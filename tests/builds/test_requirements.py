"""What the author asked for, and what becomes of it when it cannot be had."""

from __future__ import annotations

import platform
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from apps.builds.lifecycle import BuildStatus
from apps.builds.steps import BuildFailed, interpreters, locking, uv
from apps.jobs.lifecycle import Status
from apps.registry.models import Version
from tests.builds import artifacts
from tests.builds.cast import Store, build, lines


@pytest.mark.django_db(transaction=True)
def test_requirements_that_do_not_resolve_fail_with_the_explanation(
    version: Version, store: Store, now: datetime
) -> None:
    asked = "numpy==1.26.4\nscikit-learn==1.9.1\norjson<3\n"
    artifacts.write(store.place(version), requirements=asked)

    failed = build(version, now)

    assert (failed.status, failed.failure) == (BuildStatus.FAILED, "requirements")
    assert failed.reason.startswith(
        f"The requirements do not resolve for Python {platform.python_version()}. "
        "error: No solution found when resolving dependencies"
    )
    assert "orjson<3" in failed.reason
    assert failed.requirements == asked
    assert (failed.lock, failed.environment_path, failed.bundle_path) == ("", "", "")
    assert failed.job is not None
    assert (failed.job.status, failed.job.attempt) == (Status.FAILED, 1)


@pytest.mark.django_db(transaction=True)
def test_an_index_that_does_not_answer_makes_the_build_wait(
    version: Version, store: Store, now: datetime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    artifacts.write(store.place(version))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")

    waiting = build(version, now)

    assert waiting.job is not None
    assert (waiting.job.status, waiting.job.attempt) == (Status.QUEUED, 1)
    assert waiting.job.reason.startswith("Will be tried again: The package index does not answer")
    assert (waiting.status, waiting.failure) == (BuildStatus.RUNNING, "")


@pytest.mark.parametrize(
    "line",
    ["-r /etc/passwd", "--index-url http://example.org/simple", "-e .", "-c ../constraints.txt"],
)
def test_an_option_among_the_requirements_is_refused(line: str, tmp_path: Path) -> None:
    model = artifacts.write(tmp_path / "m", requirements=f"numpy\n {line}\n")

    with pytest.raises(BuildFailed, match=r"Line 2 of requirements\.txt") as refused:
        locking.requirements(model)

    assert refused.value.kind == "requirements"


@pytest.mark.parametrize(
    "line",
    [
        "./evil", "../evil", "/srv/evil", "~/evil", "evil @ file:///srv/evil", "evil@/srv/evil",
        "evil @ file:/srv/evil", "http://127.0.0.1:8000/evil.whl", "evil @ http://h/e.whl",
        "git+https://example.org/evil", "evil @ git+ssh://example.org/evil",
    ],
)  # fmt: skip
def test_a_package_from_anywhere_but_the_index_is_refused(line: str, tmp_path: Path) -> None:
    model = artifacts.write(tmp_path / "m", requirements=f"numpy\n{line}\n")

    with pytest.raises(BuildFailed, match=r"Line 2 of .* is no package of the index"):
        locking.requirements(model)


def test_ordinary_requirements_are_taken_as_they_are(tmp_path: Path) -> None:
    text = (
        "# see https://example.org/why\nscikit-learn>=1,<2; python_version < '3.14'  # a/b\n"
        "numpy[extra]~=2.0\ntorch==2.1.0+cpu\nown @ https://example.org/own-1-py3-none-any.whl\n"
    )
    model = artifacts.write(tmp_path / "m", requirements=text)

    assert locking.requirements(model) == text


def test_a_byte_order_mark_hides_no_option(tmp_path: Path) -> None:
    model = artifacts.write(tmp_path / "m", requirements="\ufeff-r /etc/passwd\n")

    with pytest.raises(BuildFailed, match=r"Line 1 of requirements\.txt"):
        locking.requirements(model)


def test_uv_is_given_what_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    model = artifacts.write(tmp_path / "m", requirements="\ufeffnumpy\n")
    asked: list[tuple[str, ...]] = []
    out = tmp_path / "requirements.lock"
    out.write_text("")
    monkeypatch.setattr(uv, "run", lambda *given, tick: asked.append(given))
    here = interpreters.choose("")

    locking.lock(model=model, server=tmp_path, python=here, work=tmp_path, tick=lambda: None)

    assert "--no-build" in asked[0]
    assert str(model / "requirements.txt") not in asked[0]
    assert Path(asked[0][-1]).read_bytes() == b"numpy\n"
    settings.BUILD_FROM_SOURCE = True
    assert uv.wheels_only() == []


def test_constraints_that_mlflow_wrote_are_taken_but_no_option_in_them(tmp_path: Path) -> None:
    text = "numpy\n-c constraints.txt\n"
    model = artifacts.write(tmp_path / "m", requirements=text)
    (model / "constraints.txt").write_text("numpy<3\n")
    assert locking.requirements(model) == text
    (model / "constraints.txt").write_text("-r /etc/passwd\n")

    with pytest.raises(BuildFailed, match=r"constraints\.txt holds an option"):
        locking.requirements(model)


@pytest.mark.parametrize(
    ("words", "network"),
    [
        ("error: Request failed after 1 retry\n  cause: Connection refused (os error 111)", True),
        ("error: Failed to fetch: `x`\n  cause: dns error", True),
        ("error: Failed to fetch: `x`\n  cause: HTTP status server error (503 Gone)", True),
        ("error: Failed to fetch: `x`\n  cause: HTTP status client error (404 Not Found)", False),
        ("error: No solution found when resolving dependencies: timed out>=2", False),
    ],
)
def test_a_silent_index_is_told_from_requirements_that_cannot_be_met(
    words: str, network: bool
) -> None:
    assert uv.is_network(words) is network


def test_the_wanted_python_is_taken_where_the_machine_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minor = "3.12" if platform.python_version().startswith("3.13") else "3.13"
    python = tmp_path / "versions" / f"{minor}.9" / "bin" / f"python{minor}"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho {minor}.9\n")
    python.chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))

    chosen = interpreters.choose(f"{minor}.1")

    assert (chosen.path, chosen.version) == (python, f"{minor}.9")
    assert chosen.note == f"Python {minor}.1 is asked, {minor}.9 is used"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("3.6.15", "Python 3.6.15 is asked but is not supported; {own} is used instead"),
        ("", "The model names no Python version; its environment gets {own}"),
        ("three", "The model names no Python version; its environment gets {own}"),
    ],
)
def test_otherwise_the_panels_own_python_is_taken_and_said(wanted: str, said: str) -> None:
    own = platform.python_version()

    chosen = interpreters.choose(wanted)

    assert (chosen.version, chosen.note) == (own, said.format(own=own))


@pytest.mark.django_db(transaction=True)
def test_a_model_of_another_python_that_fails_is_told_so(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version), python="3.6.15", pickled=b"no pickle")

    failed = build(version, now)

    own = platform.python_version()
    note = f"Python 3.6.15 is asked but is not supported; {own} is used instead"
    assert failed.reason.endswith(f"({note})")
    assert note in lines(failed)
    assert (failed.python_wanted, failed.python_version) == ("3.6.15", own)
