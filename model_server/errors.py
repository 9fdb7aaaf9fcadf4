"""It names what may go wrong with a request or a bundle, and whose fault it is."""

from __future__ import annotations

import traceback
from typing import Any


class BadRequest(Exception):
    """It says in words what the caller sent wrong; the answer is 400."""

    status = 400


class TooLarge(BadRequest):
    """It says that the body is over the limit; the answer is 413."""

    status = 413


class Unsupported(BadRequest):
    """It says that a body of this type is not read here; the answer is 415."""

    status = 415


class NotFound(BadRequest):
    """It says that the path names nothing here; the answer is 404."""

    status = 404


class NotAllowed(BadRequest):
    """It says that the path exists for another method; the answer is 405."""

    status = 405


class WrongBundle(Exception):
    """It says that the bundle on disk is not the one that was built."""


class NotLoadable(Exception):
    """It says that the model directory lacks what loading needs."""


def described(error: BaseException, *, stage: str) -> dict[str, str]:
    """It turns an exception into the error object of the probe and predict reports."""
    return {
        "stage": stage,
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    }


def brief(value: Any) -> str:
    """It shows a value inside an error message without letting it fill the answer."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
