"""Answers where no view could give one: pages for people, the API's error shape under /api/."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

API = "/api/"
Page = Callable[[], HttpResponse]


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    words = str(exception) or "The request cannot be read"
    return _answer(request, 400, "invalid", words, lambda: defaults.bad_request(request, exception))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    words = str(exception) or "You may not do this"
    return _answer(
        request, 403, "forbidden", words, lambda: defaults.permission_denied(request, exception)
    )


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    words = "There is no such address; /api/v1/schema/ describes those that there are"
    return _answer(
        request, 404, "not_found", words, lambda: defaults.page_not_found(request, exception)
    )


def broken(request: HttpRequest) -> HttpResponse:
    words = "The panel could not answer. What happened is in its log; nothing was half done"
    return _answer(request, 500, "broken", words, lambda: defaults.server_error(request))


def _answer(request: HttpRequest, status: int, code: str, message: str, page: Page) -> HttpResponse:
    if not request.path.startswith(API):
        return page()
    return JsonResponse({"code": code, "message": message, "detail": None}, status=status)
