"""Makes the Python environment of a lock; identical locks share one."""

import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from apps.builds.steps import BuildFailed, uv
from apps.builds.steps.interpreters import Interpreter


def key(lock: str, python: Interpreter) -> str:
    text = f"{lock}\n# python {python.version} at {python.path}\n"
    return hashlib.sha256(text.encode()).hexdigest()


def ready(*, lock: str, python: Interpreter, tick: Callable[[], None]) -> tuple[Path, bool]:
    """It returns the environment of the lock, and whether it had to be made.

    It is made beside its place and renamed there when it is whole, so a worker that was killed
    leaves nothing that could be taken for an environment.
    Raises: BuildFailed "environment" when a package does not install; Unavailable when the index
    does not answer.
    """
    folder: Path = settings.STACK.var / "environments"
    folder.mkdir(parents=True, exist_ok=True)
    name = key(lock, python)
    place = folder / name
    with _only_one(folder / f"{name}.lock", tick):
        if (place / "bin" / "python").exists():
            return place, False
        for left in [place, *folder.glob(f"tmp-{name}-*")]:  # without its Python it is of no use
            shutil.rmtree(left, ignore_errors=True)
        fresh = folder / f"tmp-{name}-{uuid.uuid4().hex[:8]}"
        try:
            _install(fresh, lock, python, tick)
            _open(fresh)
            fresh.rename(place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return place, True


def packages(environment: Path) -> list[dict[str, str]]:
    """It lists what is installed, by the metadata that each package brought."""
    paths = [str(path) for path in environment.glob("lib/python3*/site-packages")]
    found = {
        (dist.metadata["Name"] or "", dist.version)
        for dist in importlib.metadata.distributions(path=paths)
    }
    ordered = sorted(found, key=lambda package: package[0].lower())
    return [{"name": name, "version": version} for name, version in ordered]


def _install(fresh: Path, lock: str, python: Interpreter, tick: Callable[[], None]) -> None:
    try:
        uv.run(
            "venv", "--quiet", "--relocatable", "--python", str(python.path), str(fresh), tick=tick
        )
        listed = fresh / "requirements.lock"
        listed.write_text(lock)
        uv.run(
            "pip", "sync", "--quiet", "--require-hashes", "--python", str(fresh / "bin" / "python"),
            # Models may not write here, so nobody could compile later: each start would.
            "--compile-bytecode", *uv.wheels_only(), str(listed),
            tick=tick,
        )  # fmt: skip
    except uv.UvFailed as failure:
        raise BuildFailed("environment", f"The packages do not install. {failure}") from failure


def _open(environment: Path) -> None:
    """What uv made under the sandbox's mask only its owner may read; models run as another."""
    for name, _, files in os.walk(environment):
        Path(name).chmod(0o755)
        for file in files:
            path = Path(name, file)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


@contextmanager
def _only_one(path: Path, tick: Callable[[], None]) -> Iterator[None]:
    """Two builds of one lock: the second waits and finds what the first has made."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                tick()
                time.sleep(0.1)
        yield
