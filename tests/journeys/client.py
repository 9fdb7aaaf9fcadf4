"""A person's hand on the REST API, and looking until there is something to see."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
Json = dict[str, Any]


class Person:
    """The API in the name of one person of the cast."""

    def __init__(self, url: str, name: str, key: str) -> None:
        self.name = name
        self.key = key
        self.http = httpx.Client(
            base_url=f"{url}/api/v1/", headers={"Authorization": f"Bearer {key}"}, timeout=70
        )

    def get(self, path: str, **query: Any) -> Any:
        return checked(self.http.get(path, params=query))

    def post(self, path: str, **body: Any) -> Any:
        return checked(self.http.post(path, json=body))

    def put_policy(self, model: str, text: str) -> Json:
        headers = {"Content-Type": "application/yaml"}
        answer = self.http.put(f"models/{model}/policy", content=text.encode(), headers=headers)
        put: Json = checked(answer)
        return put

    def upload(self, model: str, rows: bytes, **fields: str) -> Json:
        files = {"file": ("rows.parquet", rows)}
        made: Json = checked(self.http.post(f"models/{model}/datasets", data=fields, files=files))
        return made

    def results(self, path: str, **query: Any) -> list[Json]:
        """The first page of a list, newest first."""
        found: list[Json] = self.get(path, **query)["results"]
        return found

    def close(self) -> None:
        self.http.close()


def checked(response: httpx.Response) -> Any:
    said = f"{response.request.method} {response.request.url} answered {response.status_code}"
    assert not response.is_error, f"{said}: {response.text[:800]}"
    return response.json()


def until(what: str, look: Callable[[], T | None], seconds: float, every: float = 0.1) -> T:
    """It looks again and again until there is something to see, and fails by its name if not."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen is not None:
            return seen
        assert time.monotonic() < deadline, f"{what}: not seen within {seconds:.0f} s"
        time.sleep(every)


def held(condition: bool) -> bool | None:
    """It turns a yes or no into what `until` waits for."""
    return condition or None
