"""The environments of the peers, of exactly pinned packages, made once."""

from __future__ import annotations

import sys
from pathlib import Path

from apps.core.errors import Unavailable
from benchmarks.serving import environments

# The same numpy in all, so that all draw the same windows from the same seeds.
NUMBERS = ("numpy==2.4.6", "scipy==1.17.1", "pyarrow==25.0.1", "scikit-learn==1.9.1")
PEERS = {
    # With a newer pandas it installs and cannot be imported.
    "evidently": ("evidently==0.7.23", "pandas==2.3.3", *NUMBERS),
    # It does not declare statsmodels and cannot be imported without.
    "nannyml": ("nannyml==0.13.1", "pandas==3.1.1", "statsmodels==0.14.6", *NUMBERS),
}
NANNYML_BELOW = (3, 13)


def made(name: str, folder: Path) -> Path:
    """It gives the Python of a peer's environment below a folder.

    Raises: UvFailed, core.errors.Unavailable.
    """
    if name == "nannyml" and sys.version_info >= NANNYML_BELOW:
        raise Unavailable("it needs Python 3.12 or older", "python_too_new")
    return environments.made(folder / name, PEERS[name]) / "bin" / "python"
