"""A table of plugins by name: gates, job handlers, channels."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """It holds what was registered under a name; a second registration is a mistake."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._held: dict[str, T] = {}

    def add(self, name: str, thing: T) -> T:
        if name in self._held:
            raise ValueError(f"Two {self.what}s are called {name!r}")
        self._held[name] = thing
        return thing

    def register(self, name: str) -> Callable[[T], T]:
        return lambda thing: self.add(name, thing)

    def get(self, name: str) -> T:
        """Raises KeyError that names what there is."""
        try:
            return self._held[name]
        except KeyError:
            known = ", ".join(sorted(self._held)) or "none"
            raise KeyError(f"No {self.what} {name!r}; there are: {known}") from None

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._held))
