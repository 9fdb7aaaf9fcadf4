"""It writes one JSON object a line to standard error, for whoever supervises the server."""

from __future__ import annotations

import json
import sys
from typing import Any


def event(name: str, **fields: Any) -> None:
    """It reports one happening with its fields."""
    sys.stderr.write(json.dumps({"event": name, **fields}, default=str) + "\n")
    sys.stderr.flush()
