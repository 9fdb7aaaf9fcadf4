"""A second database and broker, started apart from the product that is pointed at them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from mlops_portal.stack import config, control
from mlops_portal.stack.config import Stack
from tests.journeys.product import free_ports


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[Stack]:
    """PostgreSQL and Valkey of another installation, of which nothing else runs."""
    directory = Path(tempfile.mkdtemp(prefix="portal-elsewhere-"))
    directory.chmod(0o755)  # PostgreSQL's unprivileged account must pass through
    web, gateway = free_ports(2)
    own = {
        "PORTAL_VAR": str(directory / "var"),
        "PORTAL_WEB_PORT": str(web),
        "PORTAL_GATEWAY_PORT": str(gateway),
    }
    with mock.patch.dict(os.environ, own):
        stack = config.load()
    try:
        control.start_servers(stack)
        yield stack
    finally:
        control.stop(stack)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(stack.run, ignore_errors=True)
