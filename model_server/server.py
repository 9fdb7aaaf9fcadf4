"""It runs the application on a unix socket until it is told to stop, then drains."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn

from model_server.app import MAX_BODY_BYTES, App, Identity
from model_server.batching import Batching
from model_server.bundle import Bundle
from model_server.capture import Capture, Keeping
from model_server.errors import described
from model_server.loading import LoadedModel
from model_server.log import event
from model_server.mlmodel import ModelCard
from model_server.opening import open_model
from model_server.protocol import Protocol
from model_server.redaction import Redaction

DRAIN_SECONDS = 20
# The gateway closes idle connections; if this side did, it would cut off a request on its way.
IDLE_SECONDS = 2 * 60 * 60
BACKLOG = 2048


@dataclass(frozen=True)
class Place:
    """It says where a server listens and where it captures."""

    socket: Path
    spool: Path


def bind(path: Path, *, listen: bool) -> socket.socket:
    """It puts a unix socket in place in one step, instead of what a predecessor left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    bound.bind(str(fresh))
    fresh.chmod(0o660)
    if listen:
        # A socket in place that does not listen yet would refuse callers in between.
        bound.listen(BACKLOG)
    fresh.rename(path)
    return bound


@dataclass(frozen=True)
class Manner:
    """It says how a server treats requests, whatever the model."""

    max_body_bytes: int = MAX_BODY_BYTES
    batching: Batching | None = None
    redact: tuple[str, ...] = ()
    capture_share: float = 1.0

    def keeping(self, card: ModelCard) -> Keeping:
        """It says what is kept of requests for this model."""
        hide = Redaction(self.redact, card.signature, card.params) if self.redact else None
        return Keeping(self.capture_share, hide)


def run(
    bundle: Bundle,
    identity: Identity,
    place: Place,
    manner: Manner,
    shared: socket.socket | None,
) -> int:
    """It loads the model, warms it up, serves until SIGTERM, and returns the exit code."""
    leave_on_stop()
    try:
        model = open_model(bundle.model, identity.endpoint)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - loading runs the model's own code
        event("model_not_loaded", **described(error, stage="load"))
        return 1
    warm_up(model)
    capture = Capture(
        place.spool,
        revision=identity.revision,
        replica=identity.replica,
        keeping=manner.keeping(model.card),
    )
    app = App(
        model,
        identity,
        capture,
        max_body_bytes=manner.max_body_bytes,
        batching=manner.batching,
    )
    server = uvicorn.Server(_config(app))
    app.is_draining = lambda: server.should_exit

    ended: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    def on_end(words: str, code: int) -> None:
        event("command_ended", error=words, code=code)
        ended.append(code)
        server.should_exit = True

    # Uvicorn raises the signal again at its end, to the handlers that stood here before.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    gc.collect()
    # What is loaded stays; walking over it in every collection would cost tens of milliseconds.
    gc.freeze()
    capture.start()
    model.watch(on_end)
    bound = shared or bind(place.socket, listen=True)
    inode = place.socket.stat().st_ino
    event("serving", socket=place.socket.name, loader=model.loader, pid=os.getpid())
    try:
        server.run(sockets=[bound])
    finally:
        capture.close()
        model.close()
        if shared is None:
            unlink_own(place.socket, inode)
    event("stopped", served=app.served, dropped=capture.dropped, written=capture.written)
    # Whoever supervises this process starts it again, and with it the command.
    return 1 if ended else 0


def leave_on_stop() -> None:
    """It lets a stop end the process at once, while there is nothing to drain yet."""
    signal.signal(signal.SIGTERM, _leave)


def warm_up(model: LoadedModel) -> None:
    """It answers the saved input example once, so that no caller pays for first-time work."""
    try:
        model.answer_example()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a bad example is no reason to be down
        event("warm_up_failed", **described(error, stage="example"))


def unlink_own(path: Path, inode: int) -> None:
    """It removes the socket unless a successor has already put its own there."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ino == inode:
            path.unlink()


def _config(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    # An exception would surface inside whatever the model runs while it loads, and be caught.
    os._exit(0)
