"""What holds for every request: refusals become messages, impossible addresses are turned away."""

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render

from apps.core.errors import Refused, Unavailable


class AddressMiddleware:
    """It answers 400 to an address with a NUL character: PostgreSQL has no text that holds one, so
    every search with it would break instead of finding nothing."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "\0" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
            raise BadRequest("The address holds a NUL character, which no name has")
        return self.get_response(request)


class RefusalMiddleware:
    """It turns a refusal that a page met into a message beside the form, for every page alike."""

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
