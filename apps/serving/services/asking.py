"""Asks revisions past the gateway."""

from apps.serving import backends
from apps.serving.models import Revision
from apps.serving.services.wishes import ServingRefused


def copy(
    *, revision: Revision, path: str, body: bytes, request_id: str, timeout_seconds: float
) -> tuple[int, bytes] | None:
    """It sends a revision a copy of a request and gives (status, body).

    The model server records it as a copy, which no caller's figure holds. None: no replica gave a
    whole answer in time. Raises: ServingRefused where the backend cannot do it.
    """
    environment = revision.endpoint.environment
    backend = backends.load(environment.backend)
    if not backend.capabilities.copy:
        raise ServingRefused(
            f"{environment.name} is served by {environment.backend!r}, which cannot send copies of"
            " requests on its own",
            "copies_unsupported",
        )
    return backend.copy(
        revision.pk, path, body, request_id=request_id, timeout_seconds=timeout_seconds
    )
