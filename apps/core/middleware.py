"""Turns a refusal that a page met into a message beside the form, for every page alike."""

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render

from apps.core.errors import Refused, Unavailable


class RefusalMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, Refused | Unavailable):
            return None
        status = 409 if isinstance(error, Refused) else 503
        if request.headers.get("HX-Request"):
            return HttpResponse(error.message, status=status, content_type="text/plain")
        back = request.headers.get("Referer", "")
        if request.method == "POST" and back.startswith(f"{request.scheme}://{request.get_host()}"):
            messages.error(request, error.message)
            return HttpResponseRedirect(back)
        return render(request, "core/refused.html", {"error": error}, status=status)
