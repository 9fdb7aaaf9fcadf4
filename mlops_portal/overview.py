"""What the home page shows."""

from dataclasses import dataclass
from datetime import datetime

from apps.accounts.models import User


@dataclass(frozen=True)
class Overview:
    at: datetime


def of(user: User, *, now: datetime) -> Overview:
    """It gathers what needs the user, what moves, and which models there are."""
    return Overview(now)
