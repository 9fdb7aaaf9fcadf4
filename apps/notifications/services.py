"""Tells people by mail: the row is written with the fact, the mail goes out afterwards."""

import logging
import smtplib
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from email.mime.image import MIMEImage

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db.models import F
from django.template.loader import render_to_string

from apps.accounts.models import User
from apps.core import live
from apps.core.dispatch import wake
from apps.notifications.lifecycle import DeliveryStatus
from apps.notifications.models import Delivery, Mute

log = logging.getLogger(__name__)
MOST_ATTEMPTS = 8
PICTURE_ID = "chart@portal"
LEASE = timedelta(seconds=60)
SWEEP_SECONDS = 20  # then the next sweep goes on: rollouts tick in the same worker


def tell(
    *,
    users: Iterable[User],
    team_id: int | None = None,
    kind: str,
    key: str,
    subject: str,
    sentences: Sequence[str],
    facts: Sequence[tuple[str, str]],
    link_path: str,
    button: str,
    now: datetime,
    picture: bytes | None = None,
) -> int:
    """It writes one mail for each person who has not muted the kind; returns how many are new.

    Plain text and HTML say the same words. The same `key` is told to a person once. `picture`: a
    PNG that shows what the words say.
    """
    told = 0
    muted = set(Mute.objects.filter(kind=kind).values_list("user_id", flat=True))
    link = settings.PUBLIC_URL + link_path
    for user in {user.pk: user for user in users}.values():
        if user.pk in muted:
            continue
        words = {
            "user": user,
            "subject": subject,
            "sentences": sentences,
            "facts": facts,
            "link": link,
            "button": button,
            "kind": kind,
            "settings_link": settings.PUBLIC_URL + "/mails",
            "picture": f"cid:{PICTURE_ID}" if picture else "",
        }
        _, new = Delivery.objects.get_or_create(
            user=user,
            key=key,
            defaults={
                "team_id": team_id,
                "kind": kind,
                "subject": subject[:250],
                "text": render_to_string("notifications/mail.txt", words),
                "html": render_to_string("notifications/mail.html", words),
                "picture": picture,
                "link": link,
                "not_before": now,
                "created_at": now,
            },
        )
        told += new
    if told:
        wake("notifications.sweep")
        live.publish("mails:all")
    return told


def sweep(*, now: datetime, clock: Callable[[], float] = time.monotonic) -> None:
    """It sends what is due, one by one; a mail that fails is tried again, later each time.

    It ends early when the mail server does not answer, which it would not do for the others either.
    """
    until = clock() + SWEEP_SECONDS
    due = Delivery.objects.filter(status=DeliveryStatus.QUEUED, not_before__lte=now)
    for delivery in due.select_related("user").order_by("pk")[:100]:
        if clock() > until:
            return
        # The claim: a second sender finds the row not due. It comes back if this one is killed.
        claimed = due.filter(pk=delivery.pk).update(
            not_before=now + LEASE, attempts=F("attempts") + 1
        )
        if not claimed:
            continue
        delivery.refresh_from_db(fields=["attempts"])
        if not _send(delivery, now):
            return


def _send(delivery: Delivery, now: datetime) -> bool:
    """It sends one mail. False: the server does not answer."""
    rows = Delivery.objects.filter(pk=delivery.pk, status=DeliveryStatus.QUEUED)
    if not settings.EMAIL_URL:
        rows.update(status=DeliveryStatus.KEPT, ended_at=now)
        return True
    if not delivery.user.email:  # Django would send it to nobody and call that a success
        words = f"{delivery.user.get_username()} has no e-mail address"
        rows.update(status=DeliveryStatus.KEPT, ended_at=now, error=words)
        return True
    mail = EmailMultiAlternatives(delivery.subject, delivery.text, to=[delivery.user.email])
    mail.attach_alternative(delivery.html, "text/html")
    if delivery.picture:
        _attach(mail, bytes(delivery.picture))
    try:
        mail.send()
    except ValueError as unsendable:  # a line break in a header: no later attempt helps
        log.warning("Mail %s cannot be sent: %s", delivery.pk, unsendable)
        rows.update(status=DeliveryStatus.FAILED, ended_at=now, error=str(unsendable))
        return True
    except (smtplib.SMTPException, OSError) as failure:
        log.warning("Mail %s not sent: %s", delivery.pk, failure)
        given_up = delivery.attempts >= MOST_ATTEMPTS
        rows.update(
            error=str(failure),
            status=DeliveryStatus.FAILED if given_up else DeliveryStatus.QUEUED,
            not_before=now + timedelta(seconds=5 * 2**delivery.attempts),
            ended_at=now if given_up else None,
        )
        # What a server says of one mail it may not say of the next; silence is for all of them.
        return isinstance(failure, smtplib.SMTPResponseException | smtplib.SMTPRecipientsRefused)
    rows.update(status=DeliveryStatus.SENT, ended_at=now, error="")
    return True


def _attach(mail: EmailMultiAlternatives, picture: bytes) -> None:
    """It puts the picture inside the mail: one that is fetched would be blocked, and old later."""
    image = MIMEImage(picture, "png")
    image["Content-ID"] = f"<{PICTURE_ID}>"
    image["Content-Disposition"] = 'inline; filename="chart.png"'
    mail.mixed_subtype = "related"  # type: ignore[attr-defined]  # the stubs lack it
    mail.attach(image)


def mute(*, user: User, kind: str) -> None:
    Mute.objects.get_or_create(user=user, kind=kind)


def unmute(*, user: User, kind: str) -> None:
    Mute.objects.filter(user=user, kind=kind).delete()
