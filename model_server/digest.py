"""It gives a directory one digest over the content of every file.

The panel's build runs this very file, so that both sides agree by construction.
Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TypedDict

_CHUNK_BYTES = 1 << 20


class Entry(TypedDict):
    """It describes one regular file of a manifest."""

    sha256: str
    bytes: int


class Unmanifestable(ValueError):
    """It says that a directory holds something that has no stable content."""


def manifest(directory: str | os.PathLike[str]) -> dict[str, Entry]:
    """It lists every regular file under the directory by relative POSIX path."""
    root = Path(directory)
    if not root.is_dir():
        raise Unmanifestable(f"{root.name} is not a directory")
    entries: dict[str, Entry] = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            mode = path.lstat().st_mode
            # A link's target may change after the digest was taken, so the digest would lie.
            if stat.S_ISLNK(mode):
                raise Unmanifestable(f"{relative} is a symbolic link")
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                raise Unmanifestable(f"{relative} is not a regular file")
            # A newline in a name could make two different trees give the same lines.
            if "\n" in relative:
                raise Unmanifestable(f"{relative!r} has a newline in its name")
            entries[relative] = _entry(path)
    return dict(sorted(entries.items()))


def digest(manifest: dict[str, Entry]) -> str:
    """It folds a manifest into one digest, the same for the same files under the same names."""
    lines = sorted(f"{entry['sha256']}  {path}\n" for path, entry in manifest.items())
    # Names that are not UTF-8 reach us as surrogates and must not stop the digest.
    content = "".join(lines).encode("utf-8", "surrogateescape")
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _entry(path: Path) -> Entry:
    seen, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            seen.update(chunk)
            size += len(chunk)
    return {"sha256": seen.hexdigest(), "bytes": size}
