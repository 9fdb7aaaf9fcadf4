"""Keys that open one revision past the split, for people who may test.

The gateway compares a header with them and asks nobody, so testing works while the panel is down.
A key belongs to a revision and ends with it; it is shown to whoever may `endpoint.test`.
"""

import hashlib
import hmac

from django.conf import settings

HEADER = "x-force-revision"
CHARACTERS = 32  # 128 bits


def of(revision_id: int) -> str:
    """It gives the key of a revision: its number, and what only this installation can compute."""
    told = f"{HEADER}:{revision_id}".encode()
    mac = hmac.new(settings.SECRET_KEY.encode(), told, hashlib.sha256).hexdigest()
    return f"{revision_id}.{mac[:CHARACTERS]}"
