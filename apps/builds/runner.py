"""Builds one version: fetch, lock, install, seal, prove. It may be stopped between any two."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.utils import timezone

from apps.builds import services
from apps.builds.models import Build
from apps.builds.steps import (
    BuildFailed,
    artifacts,
    bundles,
    environments,
    interpreters,
    locking,
    probing,
)
from apps.jobs.services import Running
from model_server.digest import digest


def work(build_id: int, running: Running) -> None:
    """It runs the build to its end; a second attempt starts from nothing.

    Raises: jobs.services.Failed when the version cannot be built as it is; Unavailable when a
    server did not answer; Cancelled, LeaseLost.
    """
    build = Build.objects.select_related("version__model").get(pk=build_id)
    if not services.begin(build=build, running=running):
        return  # the attempt before was lost after it had finished
    place = bundles.work_directory(build.pk, running.job.attempt)
    try:
        _Work(build, running, place).all()
    except BuildFailed as failure:
        services.note(build=build, running=running, failure=failure.kind)
        raise
    finally:
        bundles.remove(place)
    services.succeed(build=build, running=running, now=timezone.now())


class _Work:
    """One attempt: its build, its job, its directory, and how long each step took."""

    def __init__(self, build: Build, running: Running, place: Path) -> None:
        self.build = build
        self.running = running
        self.place = place
        self.model = place / "model"
        self.server = place / "server" / "model_server"
        self.durations: dict[str, float] = {}

    def all(self) -> None:
        self._fetch()
        python = interpreters.choose(self.build.python_wanted)
        self._say(python.note)
        self._lock(python)
        self._install(python)
        self._seal()
        self._prove(python.note)

    def _fetch(self) -> None:
        with self._step("fetch"):
            files = artifacts.fetch(self.build.version, self.model, self.running.check)
        flavors = artifacts.flavors(self.model)
        size = sum(entry["bytes"] for entry in files.values())
        self._note(
            files=files,
            model_digest=digest(files),
            flavors=flavors,
            python_wanted=artifacts.wanted_python(self.model)[:20],
        )
        self._say(f"Fetched {len(files)} files, {size:,} bytes, {self.build.model_digest}")

    def _lock(self, python: interpreters.Interpreter) -> None:
        self._note(python_version=python.version, requirements=locking.requirements(self.model))
        if not self.build.requirements.strip():
            self._say("The model brought no requirements; only the server's are installed")
        self.server_digest = bundles.copy_server(self.place)
        with self._step("lock"):
            lock = locking.lock(
                model=self.model,
                server=self.server,
                python=python,
                work=self.place,
                tick=self.running.check,
                runtimes=[self.build.runtime],
            )
        self._note(lock=lock)
        self._say(f"Locked {lock.count('==')} packages with hashes")

    def _install(self, python: interpreters.Interpreter) -> None:
        with self._step("install"):
            path, made = environments.ready(
                lock=self.build.lock, python=python, tick=self.running.check
            )
        self._note(environment_path=str(path), packages=environments.packages(path))
        did = "Installed" if made else "Found, from an earlier build of the same lock,"
        self._say(f"{did} {len(self.build.packages)} packages in {self.durations['install']:.1f} s")

    def _seal(self) -> None:
        build = self.build
        facts = {"model": build.version.model.name, "version": build.version.number}
        with self._step("seal"):
            whole, path = bundles.seal(
                work=self.place,
                model_digest=build.model_digest,
                server_digest=self.server_digest,
                lock=build.lock,
                python=build.python_version,
                facts=facts,
            )
        self._note(digest=whole, bundle_path=str(path))
        self._say(f"The bundle is {whole}")

    def _prove(self, python_note: str) -> None:
        with self._step("probe"):
            report = probing.probe(build=self.build, tick=self.running.check)
        self._note(probe=report, signature=report.get("signature") or {})
        probing.judge(report, note=python_note)
        example = report.get("example") or {}
        answered = (
            f"answered its input example of {example.get('rows')} rows"
            if example.get("found")
            else "brought no input example to answer"
        )
        self._say(f"The model loaded in {report['load_seconds']:.1f} s and {answered}")

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self.running.check()
        began = time.monotonic()
        yield
        self.durations[name] = round(time.monotonic() - began, 3)
        self._note(durations=self.durations)

    def _note(self, **facts: object) -> None:
        services.note(build=self.build, running=self.running, **facts)

    def _say(self, words: str) -> None:
        self.running.check()
        self.running.log(words)
