"""It serves a verified bundle, in one process or several."""

from __future__ import annotations

import contextlib
from pathlib import Path

from model_server import server
from model_server.app import Identity
from model_server.bundle import verified
from model_server.errors import WrongBundle
from model_server.log import event
from model_server.workers import Workers, sealer

WRONG_BUNDLE = 3


def serve(
    *,
    bundle: Path,
    identity: Identity,
    place: server.Place,
    manner: server.Manner,
    workers: int,
) -> int:
    """It refuses a bundle whose files differ from what was built, else serves it."""
    server.leave_on_stop()
    try:
        proven = verified(bundle)
    except WrongBundle as error:
        event("wrong_bundle", error=str(error))
        return WRONG_BUNDLE
    identity = Identity(**{**vars(identity), "digest": proven.digest})
    place.spool.mkdir(parents=True, exist_ok=True)
    seal = sealer(place.spool, revision=identity.revision, replica=identity.replica)
    seal()
    if workers == 1:
        return server.run(proven, identity, place, manner, None)
    # Nobody accepts until a worker has loaded, so until then callers had better be refused.
    shared = server.bind(place.socket, listen=False)
    inode = place.socket.stat().st_ino
    try:
        return Workers(
            lambda: server.run(proven, identity, place, manner, shared),
            count=workers,
            on_death=seal,
        ).run()
    finally:
        with contextlib.closing(shared):
            server.unlink_own(place.socket, inode)
