"""Where the embedded servers live: ports, secrets and directories, chosen once and kept.

Standard library only: settings read it before Django exists, and the process launcher reads it
before it becomes the server it starts.
"""

import base64
import hashlib
import json
import os
import secrets
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Stack:
    """One installation: everything embedded lives under `var` and listens on loopback."""

    var: Path
    run: Path  # sockets: their path may have 107 characters, a checkout's depth is not ours
    web_port: int
    gateway_port: int
    postgres_port: int
    valkey_port: int
    mlflow_port: int
    postgres_password: str
    valkey_password: str
    mlflow_secret: str
    django_secret: str
    webhook_secret: str

    @property
    def database_url(self) -> str:
        given = os.environ.get("DATABASE_URL")
        return given or self.embedded_database_url("portal")

    def embedded_database_url(self, name: str) -> str:
        return f"postgresql://portal:{self.postgres_password}@127.0.0.1:{self.postgres_port}/{name}"

    @property
    def redis_url(self) -> str:
        given = os.environ.get("REDIS_URL")
        return given or f"redis://:{self.valkey_password}@127.0.0.1:{self.valkey_port}/0"

    @property
    def mlflow_url(self) -> str:
        given = os.environ.get("MLFLOW_TRACKING_URI")
        return given or f"http://127.0.0.1:{self.mlflow_port}"

    @property
    def mlflow_token(self) -> str:
        """The registry's own bearer token: only the panel holds it."""
        if os.environ.get("MLFLOW_TRACKING_URI"):
            return os.environ.get("MLFLOW_TRACKING_TOKEN", "")
        return self.mlflow_secret

    @property
    def mlflow_database_url(self) -> str:
        """The registry keeps its tables in a database of its own, on whichever server we use."""
        _, _, rest = self.database_url.partition("://")
        server, _, tail = rest.rpartition("/")
        _, question, options = tail.partition("?")
        return f"postgresql+psycopg://{server}/mlflow{question}{options}"

    @property
    def webhook_encryption_key(self) -> str:
        digest = hashlib.sha256(self.webhook_secret.encode()).digest()
        return base64.urlsafe_b64encode(digest).decode()  # a Fernet key is 32 bytes

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def gateway_admin(self) -> Path:
        return self.run / "gateway-admin.sock"

    @property
    def doorkeeper_socket(self) -> Path:
        return self.run / "doorkeeper.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def logs(self) -> Path:
        return self.var / "logs"

    @property
    def embeds_postgres(self) -> bool:
        return not os.environ.get("DATABASE_URL")

    @property
    def embeds_valkey(self) -> bool:
        return not os.environ.get("REDIS_URL")

    @property
    def embeds_mlflow(self) -> bool:
        return not os.environ.get("MLFLOW_TRACKING_URI")


def load() -> Stack:
    """It reads the installation's record, or makes it when this is the first start.

    Raises: OSError when `var` cannot be written.
    """
    var = Path(os.environ.get("PORTAL_VAR") or ROOT / "var").absolute()
    record = var / "stack.json"
    try:
        kept = json.loads(record.read_text())
    except FileNotFoundError:
        kept = _create(var, record)
    return Stack(
        var=var,
        run=_run_directory(var),
        web_port=int(os.environ.get("PORTAL_WEB_PORT", kept["web_port"])),
        gateway_port=int(os.environ.get("PORTAL_GATEWAY_PORT", kept["gateway_port"])),
        **{key: kept[key] for key in kept if key not in ("web_port", "gateway_port")},
    )


def _create(var: Path, record: Path) -> dict[str, int | str]:
    var.mkdir(parents=True, exist_ok=True)
    kept: dict[str, int | str] = {
        "web_port": int(os.environ.get("PORTAL_WEB_PORT", "8000")),
        "gateway_port": int(os.environ.get("PORTAL_GATEWAY_PORT", "8080")),
    }
    names = ("postgres_port", "valkey_port", "mlflow_port")
    kept |= dict(zip(names, _free_ports(len(names)), strict=True))
    for name in ("postgres_password", "valkey_password", "mlflow_secret", "webhook_secret"):
        kept[name] = secrets.token_urlsafe(24)
    kept["django_secret"] = secrets.token_urlsafe(50)
    # Two first starts at once: the one that links its file wins, the other reads it.
    handle, temporary = tempfile.mkstemp(dir=var)  # made with mode 0600
    with os.fdopen(handle, "w") as file:
        json.dump(kept, file, indent=1)
    try:
        os.link(temporary, record)
    except FileExistsError:
        kept = json.loads(record.read_text())
    finally:
        Path(temporary).unlink()
    return kept


def _run_directory(var: Path) -> Path:
    mark = hashlib.sha256(str(var).encode()).hexdigest()[:10]
    run = Path(tempfile.gettempdir()) / f"portal-{os.geteuid()}-{mark}"
    run.mkdir(mode=0o711, exist_ok=True)
    if run.stat().st_uid != os.geteuid():
        # A directory someone else made under this name could serve us their sockets.
        raise PermissionError(f"{run} belongs to another user; remove it or set TMPDIR")
    # Models pass through to their own sockets; those of the panel have mode 0600.
    run.chmod(0o711)
    return run


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for sock in held:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in held]
    finally:
        for sock in held:
            sock.close()
