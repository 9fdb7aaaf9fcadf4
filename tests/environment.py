"""Sets this run's own directory and ports before anything reads the product's settings.

pytest-django loads the settings before it looks at any conftest, so this is a plugin of its own
(`-p tests.environment`): without it a test run would use, and at its end stop, the installation
that a developer has running in the same checkout.
"""

import os
import socket
import tempfile
from pathlib import Path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# No leftovers of a developer's shell that would point the tests at a real installation.
for _given in ("DATABASE_URL", "REDIS_URL", "MLFLOW_TRACKING_URI", "EMAIL_URL"):
    os.environ.pop(_given, None)
RUN = Path(tempfile.mkdtemp(prefix="portal-tests-"))
RUN.chmod(0o755)  # PostgreSQL's unprivileged account must pass through
(RUN / "var" / "static").mkdir(parents=True)
os.environ["PORTAL_VAR"] = str(RUN / "var")
os.environ["PORTAL_WEB_PORT"] = str(_free_port())
os.environ["PORTAL_GATEWAY_PORT"] = str(_free_port())
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright runs a loop in the tests' own thread
