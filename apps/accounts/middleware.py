"""`Idempotency-Key` on POST: the same call sent again gets the first one's answer."""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta

from django.core.exceptions import RequestDataTooBig
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from apps.accounts import services
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
        now = timezone.now()
        caller = _caller(request, now)
        if not caller:
            return self.get_response(request)  # which says who is missing
        try:
            body = request.body
        except RequestDataTooBig:
            return _said(400, "invalid", "The body is too large to be sent with an Idempotency-Key")
        asked = hashlib.sha256(
            f"{request.method} {request.get_full_path()}\n".encode() + body
        ).hexdigest()
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
            return _again(IdempotentReply.objects.filter(caller=caller, key=key).first(), asked)
        try:
            response = self.get_response(request)
        except BaseException:
            mine.delete()
            raise
        if response.status_code >= 500 or response.status_code in (401, 429):
            mine.delete()  # it may be tried again
        else:
            _keep(mine, response)
        return response


def _caller(request: HttpRequest, now: datetime) -> str:
    """A digest of what proves who calls; "" for whom nothing is kept and nothing repeated.

    A kept answer passes by the view and its checks, so a revoked token must not get one.
    """
    proof = request.headers.get("Authorization", "")
    if proof:
        if services.user_of_key(proof.partition(" ")[2].strip(), now) is None:
            return ""
    elif request.user.is_authenticated:
        proof = request.session.session_key or ""
    return hashlib.sha256(proof.encode()).hexdigest() if proof else ""


def _keep(mine: IdempotentReply, response: HttpResponse) -> None:
    mine.status = response.status_code
    if "no-store" in response.get("Cache-Control", ""):
        mine.status, message = 409, "This was answered once, with a secret that is not kept"
        mine.body = {"code": "answered_once", "message": message, "detail": None}
    elif response.get("Content-Type", "").startswith("application/json"):
        mine.body = json.loads(response.content) if response.content else None
    mine.save(update_fields=["status", "body"])


def _again(first: IdempotentReply | None, asked: str) -> HttpResponse:
    if first is not None and first.request_digest != asked:
        return _said(
            409, "idempotency_key_reused", "This Idempotency-Key was used for another request"
        )
    if first is None or first.status is None:
        return _said(409, "still_running", "The first request with this key has not ended yet")
    if first.body is None:  # a route that answers without one
        response = HttpResponse(status=first.status)
    else:
        response = JsonResponse(first.body, status=first.status, safe=False)
    response["Idempotent-Replay"] = "true"
    return response


def _said(status: int, code: str, message: str) -> HttpResponse:
    return JsonResponse({"code": code, "message": message, "detail": None}, status=status)
