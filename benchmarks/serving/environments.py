"""Makes the environment of each server, of exactly pinned packages, once."""

import json
import sys
from pathlib import Path

from apps.builds.steps import uv

MODELS = ("scikit-learn==1.9.1", "numpy==2.4.6", "scipy==1.17.1", "joblib==1.6.0")
PICKLE = ("cloudpickle==3.1.2",)
BOOSTING = ("lightgbm==4.7.0",)
MLFLOW = ("mlflow==3.17.2",)
PEERS = {
    "mlflow": MLFLOW,
    "mlserver": (
        "mlserver==1.7.1", "mlserver-sklearn==1.7.1", "mlserver-mlflow==1.7.1", *MLFLOW,
    ),
    "bentoml": ("bentoml==1.4.39",),
    "ray": ("ray[serve]==2.60.0",),
}  # fmt: skip


def made(folder: Path, requirements: tuple[str, ...]) -> Path:
    """It gives the folder with these packages installed, and installs only when they changed.

    Raises: UvFailed, core.errors.Unavailable.
    """
    stamp = folder / ".installed.json"
    wanted = json.dumps([sys.version, *requirements])
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    print(f"  installing {folder.name}: {' '.join(requirements)}", flush=True)
    uv.run("venv", "--quiet", "--clear", "--python", sys.executable, str(folder), tick=_nothing)
    python = str(folder / "bin" / "python")
    uv.run(
        "pip", "install", "--quiet", "--python", python, "--compile-bytecode", *requirements,
        tick=_nothing,
    )  # fmt: skip
    stamp.write_text(wanted)
    return folder


def _nothing() -> None:
    """It has no work to cancel between two looks at uv."""
