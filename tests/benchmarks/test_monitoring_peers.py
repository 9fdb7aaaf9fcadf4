"""Peers are asked in processes of their own, which end when nobody waits for them any more."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.monitoring import peers
from benchmarks.monitoring.peers import PeerFailed


def script(folder: Path, words: str) -> Path:
    """It stands for a peer's Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{words}\n")
    path.chmod(0o755)
    return path


def test_the_last_line_is_the_answer(tmp_path: Path) -> None:
    python = script(
        tmp_path, """echo "warming up"; echo "{\\"task\\": \\"$3\\", \\"asked\\": $4}" """
    )
    answer = peers.ask("evidently", python, "find", {"asked": [1]}, tmp_path / "work")
    assert answer == {"task": "find", "asked": {"asked": [1]}}


def test_a_failure_says_its_last_words(tmp_path: Path) -> None:
    python = script(tmp_path, "echo 'no such column' >&2; exit 3")
    with pytest.raises(PeerFailed, match=r"^find: no such column$"):
        peers.ask("nannyml", python, "find", {}, tmp_path / "work")


def test_a_slow_one_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MOST_SECONDS", 0.05)
    python = script(tmp_path, "exec sleep 600")
    with pytest.raises(PeerFailed, match=r"^find took longer than 0\.05 s$"):
        peers.ask("nannyml", python, "find", {}, tmp_path / "work")


def test_what_is_asked_beside_ends_when_it_is_stopped(tmp_path: Path) -> None:
    started = tmp_path / "started"
    python = script(tmp_path, f"touch {started}; exec sleep 600")
    with ThreadPoolExecutor(1) as beside:
        answer = beside.submit(peers.ask, "nannyml", python, "find", {}, tmp_path / "work")
        until = time.monotonic() + 30
        while not started.exists() and time.monotonic() < until:
            time.sleep(0.01)
        peers.stop()
        with pytest.raises(PeerFailed, match=r"^find: $"):
            answer.result(timeout=30)
