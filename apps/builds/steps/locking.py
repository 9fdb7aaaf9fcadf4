"""Turns the author's requirements into one exact list of packages, each with its hashes."""

from collections.abc import Callable
from pathlib import Path

from apps.builds.steps import BuildFailed, uv
from apps.builds.steps.interpreters import Interpreter

CONSTRAINTS = ("-c constraints.txt", "--constraint constraints.txt")


def requirements(model: Path) -> str:
    """It reads the requirements as MLflow wrote them; blank where the model brought none.

    Raises: BuildFailed "requirements" for a line that is an option: `-r` would read any file that
    the panel can read, `--index-url` would fetch from wherever the author says.
    """
    path = model / "requirements.txt"
    if not path.is_file():
        return ""
    text = path.read_text("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if words.startswith("-") and words not in CONSTRAINTS:
            raise BuildFailed(
                "requirements",
                f"Line {number} of requirements.txt, {words[:100]!r}, is an option; a build takes "
                "packages only. Which index is used is set where the panel runs (UV_INDEX_URL)",
            )
    if any(line.strip() in CONSTRAINTS for line in text.splitlines()):
        constraints = model / "constraints.txt"
        inner = constraints.read_text("utf-8", "replace") if constraints.is_file() else ""
        if any(line.strip().startswith("-") for line in inner.splitlines()):
            raise BuildFailed("requirements", "constraints.txt holds an option; only versions may")
    return text


def lock(
    *, model: Path, server: Path, python: Interpreter, work: Path, tick: Callable[[], None]
) -> str:
    """It resolves the model's and the server's requirements together.

    Raises: BuildFailed "requirements" with uv's explanation; Unavailable without the index.
    """
    out = work / "requirements.lock"
    given = [model / "requirements.txt", server / "requirements.txt"]
    try:
        uv.run(
            "pip", "compile", "--quiet", "--generate-hashes",
            # Paths and comments would make two locks of the same packages differ.
            "--no-header", "--no-annotate",
            "--python", str(python.path), "--output-file", str(out),
            *[str(path) for path in given if path.is_file()],
            tick=tick,
        )  # fmt: skip
    except uv.UvFailed as failure:
        words = str(failure).replace(f"{work}/", "")
        raise BuildFailed(
            "requirements", f"The requirements do not resolve for Python {python.version}. {words}"
        ) from failure
    return out.read_text()
