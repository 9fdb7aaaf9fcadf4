"""Mails: written once with the fact, sent afterwards, given up late and in words."""

import email
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from django.core.mail import EmailMultiAlternatives
from django.db import connection

from apps.accounts.models import User
from apps.notifications import services
from apps.notifications.models import Delivery, Mute
from tests.factories.accounts import UserFactory
from tests.factories.notifications import DeliveryFactory


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Box:
    """A real mail server's inside: what came, and what it answers."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.answer = "250 OK"
        self.taken = Event()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.answer.startswith("250"):
            self.mails.append(envelope)
        self.taken.set()
        return self.answer

    def text(self) -> str:
        content = self.mails[-1].content
        assert isinstance(content, bytes)
        return content.decode().replace("=\r\n", "")


@pytest.fixture
def box(settings: Any) -> Iterator[Box]:
    """A mail server that answers, as EMAIL_URL names it."""
    box, port = Box(), free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    point_to(settings, port)
    yield box
    controller.stop()


def point_to(settings: Any, port: int) -> None:
    settings.EMAIL_URL = f"smtp://127.0.0.1:{port}"
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port


def tell(users: list[User], now: datetime, key: str = "promotion:7:waiting") -> int:
    return services.tell(
        users=users,
        kind="promotion.waiting",
        key=key,
        subject="flight-delay v2 waits for you",
        sentences=["It passed its checks & <waits>.", "Please decide."],
        facts=[("Version", "flight-delay v2"), ("roc_auc", "0.71")],
        link_path="/promotions/7",
        button="Look at it",
        now=now,
    )


@pytest.fixture
def ada(db: None) -> User:
    return UserFactory.create(username="ada")


def test_plain_text_and_html_say_the_same(ada: User, now: datetime, settings: Any) -> None:
    assert tell([ada], now) == 1

    mail = Delivery.objects.get()
    link = f"{settings.PUBLIC_URL}/promotions/7"
    assert (mail.user, mail.status, mail.link) == (ada, "queued", link)
    for words in ("Please decide.", "flight-delay v2", "0.71", link):
        assert words in mail.text
        assert words in mail.html
    assert "It passed its checks & <waits>." in mail.text
    assert "It passed its checks &amp; &lt;waits&gt;." in mail.html


def test_one_fact_is_told_to_a_person_once(ada: User, now: datetime) -> None:
    ben = UserFactory.create(username="ben")

    assert tell([ada, ada], now) == 1
    assert tell([ada, ben], now) == 1
    assert tell([ada, ben], now) == 0
    assert tell([ada], now, key="promotion:8:waiting") == 1
    told = Delivery.objects.order_by("pk").values_list("user__username", "key")
    assert list(told) == [
        ("ada", "promotion:7:waiting"),
        ("ben", "promotion:7:waiting"),
        ("ada", "promotion:8:waiting"),
    ]


def test_who_muted_the_kind_gets_none(ada: User, now: datetime) -> None:
    ben = UserFactory.create(username="ben")
    services.mute(user=ada, kind="promotion.waiting")
    services.mute(user=ada, kind="promotion.waiting")
    services.mute(user=ben, kind="rollout.reverted")

    assert tell([ada, ben], now) == 1
    assert Delivery.objects.get().user == ben
    services.unmute(user=ada, kind="promotion.waiting")
    assert tell([ada], now) == 1
    assert [mute.kind for mute in Mute.objects.all()] == ["rollout.reverted"]


def test_without_a_mail_server_it_is_kept(ada: User, now: datetime, settings: Any) -> None:
    settings.EMAIL_URL = ""
    tell([ada], now)

    services.sweep(now=now)

    mail = Delivery.objects.get()
    assert (mail.status, mail.ended_at, mail.error) == ("kept", now, "")


def test_it_goes_out(box: Box, ada: User, now: datetime) -> None:
    tell([ada], now)
    services.sweep(now=now)
    services.sweep(now=now + timedelta(hours=1))

    mail = Delivery.objects.get()
    assert (mail.status, mail.attempts, mail.ended_at, mail.error) == ("sent", 1, now, "")
    assert [envelope.rcpt_tos for envelope in box.mails] == [["ada@example.com"]]
    text = box.text()
    assert "Subject: flight-delay v2 waits for you\r\n" in text
    assert "To: ada@example.com\r\n" in text
    assert 'Content-Type: text/plain; charset="utf-8"' in text
    assert 'Content-Type: text/html; charset="utf-8"' in text
    assert "/promotions/7" in text


def test_a_picture_travels_inside_the_mail(box: Box, ada: User, now: datetime) -> None:
    png = b"\x89PNG\r\n\x1a\n and the rest"
    services.tell(
        users=[ada], kind="incident.opened", key="incident:7:opened", subject="Errors 4.1 %",
        sentences=["Errors."], facts=[], link_path="/incidents/7", button="See it", now=now,
        picture=png,
    )  # fmt: skip
    services.sweep(now=now)

    content = box.mails[-1].content
    assert isinstance(content, bytes)
    mail: Any = email.message_from_bytes(content)
    assert mail.get_content_type() == "multipart/related"
    words, image = mail.get_payload()
    plain, html = words.get_payload()
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert (image.get_content_type(), image["Content-ID"]) == ("image/png", "<chart@portal>")
    assert image["Content-Disposition"] == 'inline; filename="chart.png"'
    assert image.get_payload(decode=True) == png
    shown = html.get_payload(decode=True).decode()
    assert '<img src="cid:chart@portal" alt="Chart of what the words above say"' in shown


def test_a_mail_without_a_picture_shows_none(ada: User, now: datetime) -> None:
    tell([ada], now)
    mail = Delivery.objects.get()
    assert (mail.picture, "<img" in mail.html) == (None, False)


def test_what_is_not_yet_due_waits(box: Box, ada: User, now: datetime) -> None:
    DeliveryFactory.create(user=ada, not_before=now + timedelta(seconds=1))

    services.sweep(now=now)
    assert box.mails == []
    services.sweep(now=now + timedelta(seconds=1))
    assert len(box.mails) == 1


def test_a_failing_server_is_tried_again_later_each_time(
    box: Box, ada: User, now: datetime
) -> None:
    box.answer = "451 try again later"
    mail = DeliveryFactory.create(user=ada, not_before=now)
    at, pauses = now, []
    for attempt in range(1, services.MOST_ATTEMPTS):
        services.sweep(now=at)
        mail.refresh_from_db()
        assert (mail.status, mail.attempts, mail.ended_at) == ("queued", attempt, None)
        assert "try again later" in mail.error
        pauses.append((mail.not_before - at).total_seconds())
        at = mail.not_before
        services.sweep(now=at - timedelta(seconds=1))  # not yet
        mail.refresh_from_db()
        assert mail.attempts == attempt

    assert pauses == [10, 20, 40, 80, 160, 320, 640]
    services.sweep(now=at)
    mail.refresh_from_db()
    assert (mail.status, mail.attempts, mail.ended_at) == ("failed", 8, at)
    assert "try again later" in mail.error

    box.answer = "250 OK"
    services.sweep(now=at + timedelta(days=1))
    mail.refresh_from_db()
    assert mail.status == "failed"
    assert box.mails == []


def test_it_goes_out_when_the_server_is_back(box: Box, ada: User, now: datetime) -> None:
    box.answer = "451 try again later"
    mail = DeliveryFactory.create(user=ada, not_before=now)
    services.sweep(now=now)
    box.answer = "250 OK"
    services.sweep(now=now + timedelta(seconds=10))

    mail.refresh_from_db()
    assert (mail.status, mail.attempts, mail.error) == ("sent", 2, "")
    assert len(box.mails) == 1


def test_nobody_listens(ada: User, now: datetime, settings: Any) -> None:
    point_to(settings, free_port())
    mail = DeliveryFactory.create(user=ada, not_before=now)

    services.sweep(now=now)

    mail.refresh_from_db()
    assert mail.status == "queued"
    assert "refused" in mail.error


def test_somebody_without_an_address_reads_it_in_the_panel(
    box: Box, db: None, now: datetime
) -> None:
    mail = DeliveryFactory.create(user__email="", not_before=now)
    services.sweep(now=now)

    mail.refresh_from_db()
    assert (mail.status, mail.ended_at) == ("kept", now)
    assert mail.error == f"{mail.user.username} has no e-mail address"
    assert box.mails == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"subject": "two\nlines"}, "Header values can't contain newlines"),
        ({"user__email": "a@b\r\nBcc: c@d"}, "Invalid address"),
    ],
)
def test_one_that_no_server_could_take_stops_no_other(
    box: Box, ada: User, now: datetime, fields: dict[str, str], words: str
) -> None:
    bad = DeliveryFactory.create(not_before=now, **fields)
    good = DeliveryFactory.create(user=ada, not_before=now)

    services.sweep(now=now)

    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.status, bad.attempts, bad.ended_at) == ("failed", 1, now)
    assert words in bad.error
    assert good.status == "sent"
    assert len(box.mails) == 1


def test_a_sender_that_was_killed_leaves_it_to_the_next(
    box: Box, ada: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    mail = DeliveryFactory.create(user=ada, not_before=now)
    with monkeypatch.context() as patched:
        patched.setattr(EmailMultiAlternatives, "send", kill)
        with pytest.raises(Killed):
            services.sweep(now=now)
    services.sweep(now=now + timedelta(seconds=59))
    assert box.mails == []
    services.sweep(now=now + timedelta(seconds=60))

    mail.refresh_from_db()
    assert (mail.status, mail.attempts) == ("sent", 2)
    assert len(box.mails) == 1


@pytest.mark.django_db(transaction=True)
def test_two_senders_at_once_send_one(
    box: Box, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    DeliveryFactory.create(user=UserFactory.create(username="ada"), not_before=now)
    sending, go_on = Event(), Event()
    send = EmailMultiAlternatives.send

    def slowly(mail: EmailMultiAlternatives, *given: Any) -> int:
        sending.set()
        assert go_on.wait(10)
        return send(mail, *given)

    def first() -> None:
        try:
            services.sweep(now=now)
        finally:
            connection.close()

    monkeypatch.setattr(EmailMultiAlternatives, "send", slowly)
    thread = Thread(target=first)
    thread.start()
    try:
        assert sending.wait(10)
        services.sweep(now=now)  # while the first one still speaks with the server
    finally:
        go_on.set()
        thread.join()
    services.sweep(now=now + timedelta(hours=1))

    assert len(box.mails) == 1
    assert (Delivery.objects.get().status, Delivery.objects.get().attempts) == ("sent", 1)


def test_a_server_that_hangs_is_given_up(ada: User, now: datetime, settings: Any) -> None:
    with socket.socket() as silent:  # it takes the connection and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        point_to(settings, silent.getsockname()[1])
        assert settings.EMAIL_TIMEOUT is not None
        settings.EMAIL_TIMEOUT = 0.2
        mail = DeliveryFactory.create(user=ada, not_before=now)
        services.sweep(now=now)

    mail.refresh_from_db()
    assert mail.status == "queued"
    assert "timed out" in mail.error
