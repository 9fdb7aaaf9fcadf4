"""Charts over HTTP: a Plotly figure and the same as a table, or a picture of it."""

from typing import Any

from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.monitoring import pictures


class PictureRenderer(BaseRenderer):
    """Draws the answer of a chart as PNG."""

    media_type = "image/png"
    format = "png"
    charset = None
    render_style = "binary"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        size = (renderer_context or {})["response"].size
        return pictures.png(data.get("figure", data), *size)


class ChartView(APIView):
    """A view whose answer is a chart, as JSON or as PNG."""

    renderer_classes = (JSONRenderer, PictureRenderer)

    def drawn(self, chart: dict[str, Any], asked: dict[str, Any]) -> Response:
        """It answers with a chart, as `asked`: only its figure; width and height of a picture."""
        answer = Response(chart["figure"] if asked.get("only") else chart)
        # For the renderer that draws a picture: it is given the answer, and no other way to ask.
        answer.size = (asked["width"], asked["height"])  # type: ignore[attr-defined]
        return answer

    def handle_exception(self, error: Exception) -> Response:
        # What went wrong is said in words, whatever was asked for.
        self.request.accepted_renderer = JSONRenderer()
        self.request.accepted_media_type = JSONRenderer.media_type
        return super().handle_exception(error)
