"""Fetches one file over HTTP, into a temporary file that is gone afterwards."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import httpx

from apps.registry import sources
from apps.registry.tables import DatasetRefused

SILENT_SECONDS = 10.0  # of a server between two of its bytes


@contextmanager
def opened(url: str, *, most_bytes: int, timeout_seconds: float) -> Iterator[IO[bytes]]:
    """It gives the file's content, named like the last part of the address.

    Redirects are not followed: they would lead to hosts that nobody allowed. Nothing of the
    panel's own environment (proxies, netrc) takes part.

    Raises: DatasetRefused.
    """
    with tempfile.NamedTemporaryFile(suffix=f"-{sources.name_of(url)}"[-100:]) as file:
        try:
            _fetch(url, file, most_bytes, time.monotonic() + timeout_seconds)
        except (httpx.HTTPError, httpx.InvalidURL) as broken:
            raise DatasetRefused(f"{url} cannot be fetched: {_words(broken)}") from broken
        file.seek(0)
        yield file


def _fetch(url: str, file: Any, most_bytes: int, until: float) -> None:
    size = 0
    with (
        httpx.Client(trust_env=False, follow_redirects=False, timeout=SILENT_SECONDS) as client,
        client.stream("GET", url) as answer,
    ):
        if not answer.is_success:
            where = " elsewhere, which is not followed" if answer.is_redirect else ""
            raise DatasetRefused(f"{url} answers {answer.status_code}{where}")
        for part in answer.iter_bytes():
            size += len(part)
            if size > most_bytes:
                raise DatasetRefused("The file is larger than 2 GiB; register a sample of it")
            if time.monotonic() > until:
                raise DatasetRefused(f"{url} did not arrive in time; send the file itself")
            file.write(part)


def _words(broken: Exception) -> str:
    return str(broken) or type(broken).__name__
