"""`Idempotency-Key` on POST: the same call sent again gets the first one's answer."""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from apps.accounts.models import IdempotentReply

KEPT = timedelta(hours=24)
STUCK = timedelta(minutes=5)
LONGEST_KEY = 200


class IdempotencyMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        key = request.headers.get("Idempotency-Key", "")
        if request.method != "POST" or not key or not request.path.startswith("/api/v1/"):
            return self.get_response(request)
        if len(key) > LONGEST_KEY:
            return _said(400, "invalid", f"An Idempotency-Key has at most {LONGEST_KEY} characters")
        caller = _caller(request)
        asked = hashlib.sha256(
            f"{request.method} {request.get_full_path()}\n".encode() + request.body
        ).hexdigest()
        now = timezone.now()
        IdempotentReply.objects.filter(caller=caller, created_at__lt=now - KEPT).delete()
        # One that never ended: its process was killed. What it did is guarded by the verbs.
        IdempotentReply.objects.filter(
            caller=caller, key=key, status=None, created_at__lt=now - STUCK
        ).delete()
        try:
            with transaction.atomic():
                mine = IdempotentReply.objects.create(
                    caller=caller, key=key, request_digest=asked, created_at=now
                )
        except IntegrityError:
            return _again(IdempotentReply.objects.get(caller=caller, key=key), asked)
        try:
            response = self.get_response(request)
        except BaseException:
            mine.delete()
            raise
        if response.status_code >= 500 or response.status_code in (401, 429):
            mine.delete()  # it may be tried again
        else:
            mine.status = response.status_code
            mine.body = json.loads(response.content) if response.content else None
            mine.save(update_fields=["status", "body"])
        return response


def _caller(request: HttpRequest) -> str:
    """A digest of what proves who calls; the views still check it."""
    proof = request.headers.get("Authorization") or request.session.session_key or ""
    return hashlib.sha256(proof.encode()).hexdigest()


def _again(first: IdempotentReply, asked: str) -> HttpResponse:
    if first.request_digest != asked:
        return _said(
            409, "idempotency_key_reused", "This Idempotency-Key was used for another request"
        )
    if first.status is None:
        return _said(409, "still_running", "The first request with this key has not ended yet")
    response = JsonResponse(first.body, status=first.status, safe=False)
    response["Idempotent-Replay"] = "true"
    return response


def _said(status: int, code: str, message: str) -> HttpResponse:
    return JsonResponse({"code": code, "message": message, "detail": None}, status=status)
