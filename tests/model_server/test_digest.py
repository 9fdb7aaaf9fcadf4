"""The digest depends on names and contents, and on nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from model_server.digest import Unmanifestable, digest, manifest


def test_digest_is_over_sorted_lines_of_hash_and_path(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_bytes(b"2")
    (tmp_path / "one.txt").write_bytes(b"1!")
    one, two = hashlib.sha256(b"1!").hexdigest(), hashlib.sha256(b"2").hexdigest()

    found = manifest(tmp_path)

    assert found == {
        "b/two.txt": {"sha256": two, "bytes": 1},
        "one.txt": {"sha256": one, "bytes": 2},
    }
    lines = sorted([f"{one}  one.txt\n", f"{two}  b/two.txt\n"])
    assert digest(found) == "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("change", ["content", "name", "more", "less"])
def test_any_change_of_files_changes_the_digest(tmp_path: Path, change: str) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    before = digest(manifest(tmp_path))

    if change == "content":
        (tmp_path / "a").write_bytes(b"A")
    elif change == "name":
        (tmp_path / "a").rename(tmp_path / "c")
    elif change == "more":
        (tmp_path / "c").write_bytes(b"")
    else:
        (tmp_path / "b").unlink()

    assert digest(manifest(tmp_path)) != before


def test_symbolic_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "link").symlink_to("a")

    with pytest.raises(Unmanifestable, match=r"^link is a symbolic link$"):
        manifest(tmp_path)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unmanifestable, match=r"^gone is not a directory$"):
        manifest(tmp_path / "gone")
