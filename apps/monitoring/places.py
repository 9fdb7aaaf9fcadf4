"""Where telemetry lies below the data directory."""

from pathlib import Path

from django.conf import settings


def spool() -> Path:
    """Segments of the model servers, one directory a revision."""
    return settings.STACK.var / "spool"


def rejected() -> Path:
    """What could not be counted or logged: <revision>.<segment>, kept for people."""
    return spool() / "rejected"


def reading() -> Path:
    """What the collector itself reads now: the name of a segment."""
    return settings.STACK.var / "collector.reading"


def log() -> Path:
    """The prediction log: endpoint=<environment>.<name>/day=<day>/<uuid>.parquet"""
    return settings.STACK.var / "log"


def rows() -> Path:
    """The rows of the prediction log: endpoint=<environment>.<name>/day=<day>/<uuid>.parquet"""
    return settings.STACK.var / "rows"


def gateway() -> Path:
    return settings.STACK.var / "gateway"


def gateway_admin() -> Path:
    return settings.STACK.gateway_admin
