"""The spool: what a line holds, when a segment is sealed, what happens when there is too much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_server import capture, cli, segments
from model_server.capture import Capture, Keeping, Record, is_chosen
from tests.model_server.running import until


def record(**changes: Any) -> Record:
    known: dict[str, Any] = {
        "id": "r-1",
        "ts": 1_700_000_000_000_001,
        "status": 200,
        "us": 412,
        "format": "v2",
        "caller": "demo",
        "shadow": False,
        "request": b'{\n  "inputs": []\r\n}',
        "is_json": True,
        "response": b'{"outputs":[]}',
        "error": "",
    }
    return Record(**{**known, **changes})


def test_a_record_is_one_line_with_its_bodies_spliced_in() -> None:
    assert record().line() == (
        b'{"id":"r-1","ts":1700000000000001,"status":200,"us":412,"format":"v2","caller":"demo",'
        b'"shadow":false,"request":{   "inputs": []  },"response":{"outputs":[]},"error":""}\n'
    )


def test_a_body_that_is_not_json_is_kept_as_text_of_at_most_64_kib() -> None:
    line = json.loads(record(request=b"\xff" + b"x" * 70_000, is_json=False).line())

    assert line["request"] == {"raw": "\ufffd" + "x" * 65_535}


def test_headers_cannot_break_out_of_their_line() -> None:
    line = record(id='a","status":500,"x":"', caller="\n").line()

    assert json.loads(line)["id"] == 'a","status":500,"x":"'
    assert json.loads(line)["status"] == 200
    assert line.count(b"\n") == 1


def test_the_choice_follows_from_the_id_alone() -> None:
    ids = [f"request-{number}" for number in range(10_000)]
    quarter = {each for each in ids if is_chosen(each, 0.25)}
    half = {each for each in ids if is_chosen(each, 0.5)}

    assert (len(quarter), len(half)) == (2460, 4910)
    assert quarter < half
    assert not any(is_chosen(each, 0.0) for each in ids)


def test_what_is_not_chosen_leaves_an_outline_and_failures_stay_whole() -> None:
    keeping = Keeping(share=0.25)
    lines = [json.loads(keeping.line(record(id=f"request-{n}"))) for n in range(200)]
    whole = [line for line in lines if "id" in line]
    outlines = [line for line in lines if "id" not in line]

    assert [line["id"] for line in whole] == [
        f"request-{n}" for n in range(200) if is_chosen(f"request-{n}", 0.25)
    ]
    assert {line["share"] for line in whole} == {0.25}
    assert outlines[0] == {
        "ts": 1_700_000_000_000_001,
        "status": 200,
        "us": 412,
        "shadow": False,
        "kept": False,
    }
    assert all(line == outlines[0] for line in outlines)
    copies = [json.loads(keeping.line(record(id=f"request-{n}", shadow=True))) for n in range(200)]
    assert [line.get("id") for line in copies] == [line.get("id") for line in lines]
    failed = [json.loads(keeping.line(record(id=f"f-{n}", status=400))) for n in range(200)]
    assert [line["id"] for line in failed] == [f"f-{n}" for n in range(200)]
    assert not any("share" in line for line in failed)
    assert keeping.line(record(status=399, id="request-1")).count(b"\n") == 1


@pytest.mark.parametrize("share", ["1.5", "-0.1", "nan", "half"])
def test_a_share_is_from_none_to_all(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    serve = "serve --bundle b --socket s --spool p --endpoint e --environment e"
    with pytest.raises(SystemExit):
        cli.main([*serve.split(), "--revision=1", "--version=1", f"--capture-share={share}"])
    assert "--capture-share" in capsys.readouterr().err


def test_a_segment_holds_the_outlines_too(tmp_path: Path) -> None:
    log = Capture(tmp_path, revision="41", replica="0", keeping=Keeping(share=0.0))
    log.add(record())
    log.add(record(status=500))
    log.close()

    lines = [json.loads(line) for line in next(tmp_path.iterdir()).read_bytes().splitlines()]
    assert [line["status"] for line in lines] == [200, 500]
    assert [line.get("kept", True) for line in lines] == [False, True]
    assert log.written == 2


def names(spool: Path, suffix: str) -> list[str]:
    return sorted(path.name for path in spool.iterdir() if path.suffix == suffix)


def test_a_segment_is_sealed_by_age_and_no_empty_one_is_made(tmp_path: Path) -> None:
    log = Capture(tmp_path, revision="41", replica="0")
    log.start()
    log.add(record(id="first"))
    until("the first was sealed", lambda: names(tmp_path, ".seg"))
    log.add(record(id="second"))
    until("the second was sealed", lambda: len(names(tmp_path, ".seg")) == 2)
    log.close()

    sealed = names(tmp_path, ".seg")
    assert [name.split(".")[:2] for name in sealed] == [["41", "0"]] * 2
    assert [name.split(".")[3] for name in sealed] == ["00000000", "00000001"]
    assert [json.loads((tmp_path / name).read_bytes())["id"] for name in sealed] == [
        "first",
        "second",
    ]
    assert names(tmp_path, ".open") == []
    assert log.written == 2


def test_a_segment_is_sealed_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "SEGMENT_BYTES", 400)
    log = Capture(tmp_path, revision="41", replica="0")
    for number in range(5):
        log.add(record(id=str(number)))
    log.close()

    found = [(tmp_path / name).read_bytes().splitlines() for name in names(tmp_path, ".seg")]
    ids = [[json.loads(line)["id"] for line in lines] for lines in found]
    assert ids == [["0", "1", "2"], ["3", "4"]]


def test_what_does_not_fit_is_dropped_counted_and_said(tmp_path: Path) -> None:
    log = Capture(tmp_path, revision="41", replica="0", max_records=2)
    for number in range(5):
        log.add(record(id=str(number)))
    log.close()

    lines = [json.loads(line) for line in next(tmp_path.iterdir()).read_bytes().splitlines()]
    assert lines[0]["dropped"] == 3
    assert isinstance(lines[0]["ts"], int)
    assert [line["id"] for line in lines[1:]] == ["0", "1"]
    assert (log.dropped, log.written) == (3, 2)


def test_large_bodies_are_bounded_too(tmp_path: Path) -> None:
    log = Capture(tmp_path, revision="41", replica="0", max_bytes=100)
    log.add(record(request=b"{}", response=b'"' + b"x" * 80 + b'"'))
    log.add(record(request=b"{}", response=b'"' + b"x" * 80 + b'"'))
    log.close()

    assert (log.dropped, log.written) == (1, 1)


def test_a_spool_that_cannot_be_written_is_counted_and_used_again_when_it_can(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spool = tmp_path / "spool"
    log = Capture(spool, revision="41", replica="0")
    log.start()
    log.add(record(id="lost"))
    until("the loss was counted", lambda: log.dropped == 1)
    spool.mkdir()
    log.add(record(id="kept"))
    log.close()

    lines = [json.loads(x) for p in sorted(spool.iterdir()) for x in p.read_bytes().splitlines()]
    assert sum(line.get("dropped", 0) for line in lines) == 1
    assert [line["id"] for line in lines if "id" in line] == ["kept"]
    assert json.loads(capfd.readouterr().err)["event"] == "capture_failed"


def test_only_dead_writers_of_the_same_replica_are_sealed(tmp_path: Path) -> None:
    alive = Capture(tmp_path, revision="41", replica="0")
    alive.start()
    alive.add(record())
    living = until("the living one wrote", lambda: names(tmp_path, ".open"))[0]
    for name in ("41.0.1-9.00000003.open", "41.1.1-9.00000000.open", "4.0.1-9.00000000.open"):
        (tmp_path / name).write_bytes(b'{"id":"a"}\n{"id":"to')

    sealed = segments.seal_left(tmp_path, revision="41", replica="0")

    assert sealed == ["41.0.1-9.00000003.seg"]
    assert (tmp_path / sealed[0]).read_bytes() == b'{"id":"a"}\n{"id":"to'
    assert {"41.1.1-9.00000000.open", "4.0.1-9.00000000.open"} <= set(names(tmp_path, ".open"))
    alive.close()
    assert living.replace(".open", ".seg") in names(tmp_path, ".seg")
