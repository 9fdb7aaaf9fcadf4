"""Proves that the bundle's model loads and answers, in a process of its own."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apps.builds.models import Build
from apps.builds.steps import BuildFailed
from apps.core import sandbox

TIMEOUT_SECONDS = 120.0
MEMORY_BYTES = 8 * 1024**3


def probe(*, build: Build, tick: Callable[[], None]) -> dict[str, Any]:
    """It loads the model and asks it its own input example, and returns what was seen.

    A report with `error` set is a model that failed; its `stage` says in which of the two.
    """
    with tempfile.TemporaryDirectory(prefix="portal-probe-") as name:
        work = Path(name)
        out = work / "probe.json"
        model = Path(build.bundle_path) / "model"
        command = build.command("probe", "--model", str(model), "--out", str(out))
        python = Path(command[0])
        account = sandbox.account_for(python, owner=build.version.model_id, reads=[build.card_path])
        done = sandbox.run(
            command,
            env=build.process_environment() | {"HOME": name, "TMPDIR": name},
            limits=build.limited(sandbox.Limits(memory_bytes=MEMORY_BYTES)),
            cwd=work,
            timeout_seconds=TIMEOUT_SECONDS,
            on_tick=tick,
            account=account,
            reads=[*sandbox.read_by(python), Path(build.bundle_path)],
            writes=[work],
            mark=name,
        )
        try:
            report: dict[str, Any] = json.loads(out.read_bytes())
        except (OSError, ValueError):
            report = _without_report(done)
    report["seconds"] = round(done.seconds, 3)
    report["output"] = done.output_tail[-4000:]
    report["ran_as"] = done.ran_as
    report["why_ran_as"] = account.why
    report["confined_by"] = sandbox.confinement()
    return report


def judge(report: dict[str, Any], *, note: str) -> None:
    """Raises: BuildFailed "load" or "example" with the error, and what may have caused it."""
    error = report.get("error")
    if not error:
        return
    stage = error.get("stage") if error.get("stage") in ("load", "example") else "load"
    did = "does not load" if stage == "load" else "does not answer its own input example"
    said = f"The model {did}: {error.get('type', '')}: {error.get('message', '')}"
    instead = f" ({note})" if "instead" in note else ""
    raise BuildFailed(stage, f"{said.strip(': ')[:3000]}{instead}")


def _without_report(done: sandbox.Finished) -> dict[str, Any]:
    why = done.killed_why or f"the process ended with code {done.returncode}"
    last = done.output_tail.strip().splitlines()[-1:]
    words = f"{why}; its last words were: {last[0]}" if last else why
    return {
        "ok": False,
        "error": {"stage": "load", "type": "Stopped", "message": words, "traceback": ""},
    }
