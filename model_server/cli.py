"""It reads the command line and calls the command."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

MOST_WAIT_MS = 1000


def main(arguments: list[str]) -> int:
    """It runs one command and returns the exit code."""
    options = _parser().parse_args(arguments)
    # Each command is imported alone, so that a probe does not need the web server to start.
    if options.command == "probe":
        from model_server.commands.probe import probe

        return probe(model=options.model, out=options.out)
    if options.command == "predict":
        from model_server.commands.predict import predict

        return predict(model=options.model, data=options.data, out=options.out, batch=options.batch)
    from model_server.app import Identity
    from model_server.batching import Batching
    from model_server.commands.serve import serve
    from model_server.server import Manner, Place

    identity = Identity(
        endpoint=options.endpoint,
        environment=options.environment,
        revision=options.revision,
        version=options.version,
        digest="",
        replica=options.replica,
    )
    place = Place(socket=options.socket, spool=options.spool)
    return serve(
        bundle=options.bundle,
        identity=identity,
        place=place,
        manner=Manner(
            max_body_bytes=options.max_body_bytes,
            batching=Batching(options.batch_rows, options.batch_wait_ms / 1000)
            if options.batch_rows > 1
            else None,
            redact=tuple(options.redact),
            capture_share=options.capture_share,
        ),
        workers=options.workers,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="model_server")
    orders = parser.add_subparsers(dest="command", required=True)

    probe = orders.add_parser("probe", help="load a model and answer its input example")
    probe.add_argument("--model", type=Path, required=True)
    probe.add_argument("--out", type=Path, required=True)

    predict = orders.add_parser("predict", help="answer a table of rows")
    predict.add_argument("--model", type=Path, required=True)
    predict.add_argument("--data", type=Path, required=True)
    predict.add_argument("--out", type=Path, required=True)
    predict.add_argument("--batch", type=_positive, default=5000)

    serve = orders.add_parser("serve", help="serve a bundle on a unix socket")
    serve.add_argument("--bundle", type=Path, required=True)
    serve.add_argument("--socket", type=Path, required=True)
    serve.add_argument("--spool", type=Path, required=True)
    serve.add_argument("--endpoint", required=True)
    serve.add_argument("--environment", required=True)
    serve.add_argument("--revision", type=_name, required=True)
    serve.add_argument("--version", required=True)
    serve.add_argument("--replica", type=_name, default="0")
    serve.add_argument("--workers", type=_positive, default=1)
    serve.add_argument("--max-body-bytes", type=_positive, default=16 << 20)
    serve.add_argument("--redact", action="append", default=[], metavar="COLUMN")
    serve.add_argument("--capture-share", type=_share, default=1.0)
    serve.add_argument("--batch-rows", type=_positive, default=1)
    serve.add_argument("--batch-wait-ms", type=_wait, default=0.0)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _wait(text: str) -> float:
    milliseconds = float(text)
    # A minute or NaN would hold every lone caller up until the gateway gives it up.
    if not 0 <= milliseconds <= MOST_WAIT_MS:
        raise argparse.ArgumentTypeError(f"must be 0 to {MOST_WAIT_MS}")
    return milliseconds


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return number


def _name(text: str) -> str:
    # These become parts of segment names, which dots and slashes would break.
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise argparse.ArgumentTypeError("may hold letters, digits, - and _ only")
    return text
