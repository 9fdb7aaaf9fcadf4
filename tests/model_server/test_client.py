"""The client of servers behind: bounded in connections, waiters, sizes and time; TLS is checked."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from model_server.upstream import client as module
from model_server.upstream.client import Client, Down, Late, Reply, Target, UpstreamError, target
from tests import loops
from tests.model_server.runtimes import Elsewhere, Handler, elsewhere

BODY = b'{"inputs": [{"name": "x", "data": [1]}]}'


def client(server: Elsewhere, **options: float) -> Client:
    host, port = server.server_address[:2]
    place = Target(host=str(host), port=int(port))
    return Client(place, seconds=options.pop("seconds", 30.0), **options)  # type: ignore[arg-type]


def test_one_connection_serves_requests_one_after_the_other() -> None:
    async def three(server: Elsewhere) -> list[Reply]:
        asking = client(server, connections=1)
        try:
            return list(await asyncio.gather(*(asking.ask("POST", "/", BODY) for _ in range(3))))
        finally:
            asking.close()

    with elsewhere() as server:
        replies = loops.run(three(server))

    assert [reply.status for reply in replies] == [200, 200, 200]
    assert len(set(server.ports)) == 1


def test_who_waits_for_a_connection_waits_within_the_time_limit() -> None:
    def hold(handler: Handler) -> None:
        handler.server.released.wait(60)
        handler.close_connection = True

    async def two(server: Elsewhere) -> list[BaseException | Reply]:
        asking = client(server, connections=1, seconds=0.3)
        asked = [asking.ask("POST", "/", BODY) for _ in range(2)]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    with elsewhere({"x": hold}) as server:
        first, second = loops.run(two(server))

    assert isinstance(first, Late)
    assert isinstance(second, Late)
    assert str(second) == "the server behind did not answer within 0.3 s"


def test_more_waiters_than_bearable_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 0)
    monkeypatch.setattr(module, "CONNECTIONS", 1)

    async def two(server: Elsewhere) -> list[BaseException | Reply]:
        asking = client(server, connections=1)
        asked = [asking.ask("POST", "/", BODY) for _ in range(2)]
        try:
            return list(await asyncio.gather(*asked, return_exceptions=True))
        finally:
            asking.close()

    with elsewhere() as server:
        first, second = loops.run(two(server))

    assert isinstance(first, Reply)
    assert isinstance(second, Down)
    assert str(second) == "too many requests wait for the server behind"


def test_an_answer_that_is_too_long_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1000)
    long = {"x": lambda handler: handler.reply(200, b"1" * (module.MAX_HEAD_BYTES + 2000))}
    with elsewhere(long) as server, pytest.raises(UpstreamError, match="is over 1000 bytes"):
        loops.run(client(server).ask("POST", "/", BODY))


def test_a_header_with_a_line_break_is_not_sent() -> None:
    async def ask(server: Elsewhere) -> None:
        asking = client(server)
        await asking.ask("POST", "/", BODY, [(b"x-request-id", b"a\r\nx-evil: 1"), (b"x-b", b"2")])
        asking.close()

    with elsewhere() as server:
        loops.run(ask(server))

    [(_, headers, _)] = server.seen
    assert ("x-request-id" in headers, "x-evil" in headers, headers["x-b"]) == (False, False, "2")


def certificate(folder: Path) -> Path:
    """It signs a certificate for 127.0.0.1 by itself, key and all in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_must_be_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    both = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(both) if trusted else "/nowhere")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)

    async def ask(place: str) -> int:
        asking = Client(target(f"https://{place}"), seconds=30)
        try:
            return (await asking.ask("POST", "/", BODY)).status
        finally:
            asking.close()

    with Elsewhere({}) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            if trusted:
                assert loops.run(ask(server.place)) == 200
            else:
                with pytest.raises(Down, match=r"cannot be reached: .*certificate verify failed"):
                    loops.run(ask(server.place))
        finally:
            server.shutdown()
            thread.join()


def test_an_address_is_taken_apart() -> None:
    assert target("http://H/v") == Target(host="h", port=80, tls=False, prefix="/v")
    assert target("https://[::1]:8443") == Target(host="::1", port=8443, tls=True)
    assert target("https://[::1]:8443").name == b"[::1]:8443"
