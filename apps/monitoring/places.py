"""Where telemetry lies below the data directory."""

from pathlib import Path

from django.conf import settings


def spool() -> Path:
    """Segments of the model servers, one directory a revision."""
    return settings.STACK.var / "spool"


def rejected() -> Path:
    """Segments that belong to nothing we know; kept for people, never read again."""
    return spool() / "rejected"


def log() -> Path:
    """The prediction log: endpoint=<environment>.<name>/day=<day>/<uuid>.parquet"""
    return settings.STACK.var / "log"


def gateway() -> Path:
    return settings.STACK.var / "gateway"


def gateway_admin() -> Path:
    return settings.STACK.gateway_admin
