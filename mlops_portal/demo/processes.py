"""The demo's own processes: the data scientists' scripts and the callers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from mlops_portal.demo.panel import NotObserved
from mlops_portal.stack.config import ROOT
from mlops_portal.stack.programs import base_env

SCRIPT_SECONDS = 600


def environment(directory: Path, **more: str) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    return base_env() | threads | quiet | {"FLIGHTS_DIRECTORY": str(directory)} | more


def run_script(name: str, directory: Path, **more: str) -> dict[str, Any]:
    """It runs one of the scripts in demo/ and returns the line of JSON that it ends with.

    Raises: NotObserved with the script's last words when it fails.
    """
    done = subprocess.run(
        [sys.executable, str(ROOT / "demo" / name)],
        env=environment(directory, **more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS,
    )
    if done.returncode != 0:
        raise NotObserved(f"demo/{name} failed:\n{done.stderr[-2000:]}")
    summary: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return summary


class Callers:
    """Airport boards, crew planning and a passenger app, asking about real flights."""

    def __init__(self, gateway: str, directory: Path, report: Path, *, rate: float) -> None:
        base = f"{gateway}/production"
        self.report_path = report
        report.unlink(missing_ok=True)
        command = [sys.executable, str(ROOT / "demo" / "callers.py")]
        command += ["--url", f"{base}/v2/models/flight-delay/infer"]
        command += ["--invocations-url", f"{base}/endpoints/flight-delay/invocations"]
        command += ["--rate", str(rate), "--report", str(report)]
        self._log = report.with_suffix(".log").open("wb")
        self._process = subprocess.Popen(
            command,
            env=environment(directory),
            cwd=ROOT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def seen(self) -> dict[str, Any]:
        """What the callers have counted until about a second ago."""
        if self._process.poll() is not None and self._process.returncode != 0:
            raise NotObserved(
                f"The callers ended: {self.report_path.with_suffix('.log').read_text()[-1000:]}"
            )
        try:
            found: dict[str, Any] = json.loads(self.report_path.read_text())
        except FileNotFoundError:
            return {}
        return found

    def stop(self) -> dict[str, Any]:
        """It lets them finish what they wait for, and returns all they counted."""
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)
            self._process.wait(60)
        self._log.close()
        return self.seen()
