"""Calls uv, the one program that resolves and installs packages for models."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from django.conf import settings

from apps.core import sandbox
from apps.core.errors import Unavailable

# Where the index is and how it is reached; nothing of the panel's own.
PASSED = (
    "PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
NETWORK = (
    "error sending request", "tcp connect error", "dns error", "connection refused",
    "connection reset", "connection closed", "operation timed out", "timed out", "network error",
    "http status server error", "429 too many requests", "tls handshake",
)  # fmt: skip
TIMEOUT_SECONDS = 1800
LIMITS = sandbox.Limits(memory_bytes=None, open_files=8192, file_bytes=None)


class UvFailed(Exception):
    """uv understood the question and the answer is no; the message is uv's explanation."""


def run(*arguments: str, tick: Callable[[], None]) -> None:
    """It runs one uv command to its end.

    Raises: UvFailed with uv's words; core.errors.Unavailable when the package index did not
    answer; whatever `tick` raises to stop the work.
    """
    done = sandbox.run(
        [str(Path(sys.prefix) / "bin" / "uv"), *arguments],
        env=environment(),
        limits=LIMITS,
        # Not in the installation's own folder: uv would take the project file there for its own.
        cwd=Path("/"),
        timeout_seconds=TIMEOUT_SECONDS,
        on_tick=tick,
    )
    if done.returncode == 0:
        return
    words = done.output_tail.strip()
    if done.killed_why:
        raise UvFailed(f"{done.killed_why}. {words}")
    if is_network(words):
        raise Unavailable(f"The package index does not answer: {words[:1000]}", "index_unavailable")
    raise UvFailed(words[:4000])


def wheels_only() -> list[str]:
    """The option that keeps packages from running code of theirs while they are installed.

    A source package is built by its own script, which would run with the panel's rights and could
    put anything into the cache that all builds share.
    """
    return [] if settings.BUILD_FROM_SOURCE else ["--no-build"]


def is_network(words: str) -> bool:
    """It tells an index that cannot be reached from requirements that cannot be met."""
    said = words.lower()
    return "no solution found" not in said and any(sign in said for sign in NETWORK)


def environment() -> dict[str, str]:
    """It holds what uv needs. Packages run code when they are built: no secret may be in it."""
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    passed |= {name: value for name, value in os.environ.items() if name.startswith("UV_")}
    passed.setdefault("UV_CACHE_DIR", str(settings.STACK.var / "uv-cache"))
    return passed | {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
