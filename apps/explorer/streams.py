"""Sends a long answer piece by piece, under either kind of server."""

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

TYPES = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}


def stream(
    request: HttpRequest, chunks: Iterator[bytes], *, kind: str, name: str
) -> StreamingHttpResponse:
    """It answers with a file of this name."""
    # An asynchronous server would read a plain iterator to its end before it sends anything.
    content = _slowly(chunks) if isinstance(request, ASGIRequest) else chunks
    answer = StreamingHttpResponse(content, content_type=TYPES[kind])
    answer["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Cache-Control"] = "no-store"
    return answer


async def _slowly(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (chunk := await sync_to_async(lambda: next(chunks, None))()) is not None:
        yield chunk
