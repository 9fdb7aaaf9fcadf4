"""The whole of `portal up`, for the command, the demo and the tests alike."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from django.core.management import call_command
from django.db import connections

from mlops_portal.stack import control
from mlops_portal.stack.config import Stack
from mlops_portal.stack.supervisor import Supervisor

Say = Callable[[str], None]
ADMIN = "admin"


def up(stack: Stack, say: Say, *, wait_for_registry: bool = True) -> Supervisor:
    """It starts everything and returns when it answers. Raises: control.CannotStart."""
    (stack.var / "static").mkdir(parents=True, exist_ok=True)
    with control.only_one(stack):
        say("Starting database and broker")
        client = control.start_servers(stack)
        control.create_databases(stack)
        say("Preparing tables")
        call_command("migrate", verbosity=0, interactive=False)
        prepare_rows(stack)
        connections.close_all()
        say("Starting gateway, registry, web, workers, collector")
        control.start_rest(stack, client)
        if wait_for_registry:
            say("Waiting for the registry")
            control.wait_for_registry(stack)
    return client


def prepare_rows(stack: Stack) -> None:
    """The rows without which nobody could sign in and nothing could be served."""
    from apps.accounts.models import User
    from apps.serving.services import wishes

    wishes.ensure_environments()
    if not User.objects.filter(is_superuser=True).exists():
        password = secrets.token_urlsafe(12)
        User.objects.create_superuser(ADMIN, f"{ADMIN}@example.com", password)
        write_secret(password_file(stack), password)


def password_file(stack: Stack) -> Path:
    return stack.var / "admin-password"


def write_secret(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")


def greeting(stack: Stack) -> list[str]:
    lines = [
        f"Panel    {stack.web_url}/",
        f"Gateway  {stack.gateway_url}/",
        f"MLflow   {stack.web_url}/mlflow/  (MLFLOW_TRACKING_URI, MLFLOW_TRACKING_TOKEN)",
    ]
    if password_file(stack).exists():
        lines.append(f"Sign in as {ADMIN}; the password stands in {password_file(stack)}")
    return lines
