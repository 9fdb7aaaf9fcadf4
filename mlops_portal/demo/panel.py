"""A caller of the panel's REST API, as a CI job would write it."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
Json = dict[str, Any]


class NotObserved(Exception):
    """Something that the demo is there to show did not happen."""


class Panel:
    """The API in the name of one person."""

    def __init__(self, url: str, key: str) -> None:
        self.key = key
        self._http = httpx.Client(
            base_url=f"{url}/api/v1/", headers={"Authorization": f"Bearer {key}"}, timeout=90
        )

    def get(self, path: str, **query: Any) -> Any:
        return self._checked(self._http.get(path, params=query))

    def post(self, path: str, **body: Any) -> Any:
        return self._checked(self._http.post(path, json=body))

    def try_post(self, path: str, **body: Any) -> httpx.Response:
        """It posts and returns whatever came back, refusals too."""
        return self._http.post(path, json=body)

    def put_yaml(self, path: str, text: str) -> Any:
        headers = {"Content-Type": "application/yaml"}
        return self._checked(self._http.put(path, content=text.encode(), headers=headers))

    def upload(self, path: str, file: bytes, **fields: str) -> Any:
        files = {"file": ("rows.parquet", file)}
        return self._checked(self._http.post(path, data=fields, files=files))

    def results(self, path: str, **query: Any) -> list[Json]:
        """The first page of a list."""
        found: list[Json] = self.get(path, **query)["results"]
        return found

    def _checked(self, response: httpx.Response) -> Any:
        if response.is_error:
            raise NotObserved(
                f"{response.request.method} {response.request.url.path} answered "
                f"{response.status_code}: {response.text[:500]}"
            )
        return response.json() if response.content else None


def until(what: str, look: Callable[[], T | None], seconds: float, every: float = 0.3) -> T:
    """It looks again and again until there is something to see.

    Raises: NotObserved that names `what` when the time is over.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen is not None:
            return seen
        if time.monotonic() > deadline:
            raise NotObserved(f"{what}: not seen within {seconds:.0f} s")
        time.sleep(every)
