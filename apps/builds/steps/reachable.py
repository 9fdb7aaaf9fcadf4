"""Brings a Python to where models, which run as accounts of their own, can reach it.

A Python in a private home (/root/.pyenv) is usual where the panel runs as root. Without a copy each
model would have to run as root too.
"""

import hashlib
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings

from apps.core import sandbox

ASK = "import json, sys; print(json.dumps([sys.base_prefix, '%d.%d' % sys.version_info[:2]]))"
TRY = "import ctypes, json, os, sqlite3, ssl, sys, zlib"
LEFT_OUT = ("site-packages", "test", "tests", "idlelib", "turtledemo", "__pycache__", "config-*")
ANYBODY = 0  # which model asks does not matter here


def interpreter(path: Path) -> Path:
    """It gives this Python, or a copy of it where accounts of models do not reach it.

    Where no copy works either, this one is given: what runs it then stays root, and says so.
    """
    if os.geteuid() != 0 or sandbox.account_for(path, owner=ANYBODY).uid is not None:
        return path
    described = _described(path)
    if described is None:
        return path
    prefix, minor = described
    mark = hashlib.sha256(str(prefix).encode()).hexdigest()[:10]
    place: Path = settings.STACK.var / "interpreters" / f"{minor}-{mark}"
    copy = place / "bin" / f"python{minor}"
    if not copy.exists():
        _copy(prefix, minor, place)
    return copy if _works(copy) else path


def _described(path: Path) -> tuple[Path, str] | None:
    try:
        done = subprocess.run(
            [path, "-I", "-c", ASK], capture_output=True, text=True, timeout=20, check=True
        )
        prefix, minor = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Path(prefix), minor


def _copy(prefix: Path, minor: str, place: Path) -> None:
    """It is made beside its place and renamed when it is whole: two builds may do it at once."""
    fresh = place.with_name(f"tmp-{uuid.uuid4().hex[:8]}")
    (fresh / "bin").mkdir(parents=True)
    try:
        binary = fresh / "bin" / f"python{minor}"
        shutil.copy(prefix / "bin" / f"python{minor}", binary)
        shutil.copytree(
            prefix / "lib" / f"python{minor}",
            fresh / "lib" / f"python{minor}",
            ignore=shutil.ignore_patterns(*LEFT_OUT),
        )
        for library in (prefix / "lib").glob("libpython*.so*"):
            shutil.copy(library, fresh / "lib" / library.name)
        _look_beside(binary, prefix / "lib")
        _open([fresh.parent, fresh, *fresh.rglob("*")])
        if not place.exists():
            fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _look_beside(binary: Path, library: Path) -> None:
    """It makes the program look for its library beside itself, no longer where it was built.

    The place stands in the program as text; a shorter one fits into the same bytes.
    """
    old, new = os.fsencode(library) + b"\0", b"$ORIGIN/../lib\0"
    content = binary.read_bytes()
    if len(new) <= len(old) and content.count(old) == 1:
        binary.write_bytes(content.replace(old, new.ljust(len(old), b"\0")))


def _open(paths: Iterable[Path]) -> None:
    for path in paths:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    for path in paths:
        if path.parent.name == "bin":
            path.chmod(0o755)


def _works(copy: Path) -> bool:
    account = sandbox.account_for(copy, owner=ANYBODY)
    if account.uid is None:
        return False
    done = subprocess.run(
        [copy, "-I", "-c", TRY], user=account.uid, group=account.gid, extra_groups=[], env={},
        cwd="/", capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    return done.returncode == 0
