"""Turns the author's requirements into one exact list of packages, each with its hashes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from apps.builds.steps import BuildFailed, uv
from apps.builds.steps.interpreters import Interpreter
from model_server import card

CONSTRAINTS = ("-c constraints.txt", "--constraint constraints.txt")


def requirements(model: Path) -> str:
    """It reads the requirements as MLflow wrote them; blank where the model brought none.

    Raises: BuildFailed "requirements" for a line that is an option: `-r` would read any file that
    the panel can read, `--index-url` would fetch from wherever the author says. Likewise for a
    package that is a path or an address other than https.
    """
    if card.is_card(model):
        return ""  # no Python of the author's runs there
    text = _text(model / "requirements.txt")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if words.startswith("-") and words not in CONSTRAINTS:
            raise BuildFailed(
                "requirements",
                f"Line {number} of requirements.txt, {words[:100]!r}, is an option; a build takes "
                "packages only. Which index is used is set where the panel runs (UV_INDEX_URL)",
            )
        if _is_elsewhere(words):
            raise BuildFailed(
                "requirements",
                f"Line {number} of requirements.txt, {words[:100]!r}, is no package of the index; "
                "a build takes packages by name, or wheels by https address",
            )
    if any(line.strip() in CONSTRAINTS for line in text.splitlines()):
        inner = _text(model / "constraints.txt").splitlines()
        if any(line.strip().startswith("-") or _is_elsewhere(line) for line in inner):
            raise BuildFailed("requirements", "constraints.txt holds an option; only versions may")
    return text


def _is_elsewhere(line: str) -> bool:
    """A path, or an address that is not https: ours to read or to reach, not the author's."""
    words = line.partition("#")[0] if line.lstrip().startswith("#") else line.partition(" #")[0]
    _, at, target = words.partition("@")
    if at:
        return not target.strip().lower().startswith("https://")
    return words.strip().startswith("~") or any(sign in words for sign in "/\\:")


def _text(path: Path) -> str:
    """It reads what people wrote; a byte-order mark, which uv ignores, would hide an option."""
    if not path.is_file():
        return ""
    return path.read_text("utf-8", "replace").replace("\ufeff", "")


def lock(
    *,
    model: Path,
    server: Path,
    python: Interpreter,
    work: Path,
    tick: Callable[[], None],
    runtimes: Sequence[str] = (),
) -> str:
    """It resolves the model's and the server's requirements together, and those of its runtimes.

    Raises: BuildFailed "requirements" with uv's explanation; Unavailable without the index.
    """
    out, asked = work / "requirements.lock", work / "asked"
    asked.mkdir(exist_ok=True)
    # What was looked at, and not the files again: uv may read them in another way than we do.
    (asked / "requirements.txt").write_text(requirements(model))
    constraints = "" if card.is_card(model) else _text(model / "constraints.txt")
    (asked / "constraints.txt").write_text(constraints)
    given = [asked / "requirements.txt", server / "requirements.txt"]
    given += [server / f"requirements-{name}.txt" for name in runtimes]
    try:
        uv.run(
            "pip", "compile", "--quiet", "--generate-hashes",
            # Paths and comments would make two locks of the same packages differ.
            "--no-header", "--no-annotate",
            "--python", str(python.path), "--output-file", str(out),
            *uv.wheels_only(), *[str(path) for path in given if path.is_file()],
            tick=tick,
        )  # fmt: skip
    except uv.UvFailed as failure:
        words = str(failure).replace(f"{work}/", "")
        raise BuildFailed(
            "requirements", f"The requirements do not resolve for Python {python.version}. {words}"
        ) from failure
    return out.read_text()
