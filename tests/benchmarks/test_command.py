"""What the commands of all benchmarks do."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from benchmarks import command

PARTS = ("fast", "small")


def test_options() -> None:
    given = command.options([], "serving", "about", quick="less", parts=PARTS)
    assert (given.quick, given.json, given.only, given.peers) == (False, None, PARTS, None)

    line = ["--quick", "--json", "f.json", "--only", "small", "--peers", "ray"]
    given = command.options(line, "serving", "about", quick="less", parts=PARTS)
    assert (given.quick, given.json, given.only) == (True, Path("f.json"), ["small"])
    assert command.left_out(given, peers=["ray", "triton"], parts=PARTS) == {
        "triton": "left out by --peers",
        "fast": "left out by --only",
    }


def test_a_part_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.options(["--only", "slow"], "serving", "about", quick="less", parts=PARTS)

    assert ended.value.code == 2
    assert "invalid choice: 'slow'" in capsys.readouterr().err


def test_two_at_once_would_measure_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.alone(tmp_path, lambda: 1) == 1
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert command.alone(tmp_path, lambda: 1) == 2
    assert capsys.readouterr().err == "Another benchmark runs here\n"


def test_a_part_that_fails_is_missed_and_the_others_run(capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[str] = []
    missed: dict[str, str] = {}

    def broken() -> None:
        raise LookupError("no peer")

    parts = {"first": broken, "left": broken, "last": lambda: ran.append("last")}
    command.go(parts, ["first", "last"], failed=LookupError, miss=missed.__setitem__)

    assert (ran, missed) == (["last"], {"first": "no peer"})
    assert capsys.readouterr().out == "first:\nlast:\n"
    with pytest.raises(LookupError):
        command.go(parts, ["first"], failed=ValueError, miss=missed.__setitem__)
