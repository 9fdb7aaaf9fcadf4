"""What the supervisor is told of each replica: its name, its command line, its file."""

import configparser
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from django.conf import settings

from apps.core import sandbox
from apps.serving.backends import Running, WantedRevision

DRAIN_SECONDS = 25  # a little more than the model server takes to finish what is under way
# A process that ends sooner is tried again after 1, 2, 3 … s, so that a broken model does not
# keep a processor busy with loading.
SETTLED_SECONDS = 10
NAME = re.compile(r"r(\d+)\.(\d+)")


@dataclass(frozen=True)
class Place:
    """Where replicas live on this machine."""

    configurations: Path
    logs: Path
    sockets: Path
    spool: Path
    supervisor: Path

    def socket(self, revision: int, index: int) -> Path:
        return self.sockets / f"r{revision}" / f"{index}.sock"

    def mark(self, revision: int, index: int) -> str:
        """What tells the processes of a replica from all others."""
        return str(self.socket(revision, index).with_suffix(""))


def name_of(revision: int, index: int) -> str:
    """It names a replica to the supervisor."""
    return f"r{revision}.{index}"


def pair_of(name: str) -> tuple[int, int]:
    """It gives (revision, index) of what `name_of` named."""
    revision, _, index = name[1:].partition(".")
    return int(revision), int(index)


def revision_of(name: str) -> int:
    return pair_of(name)[0]


def index_of(name: str) -> int:
    return pair_of(name)[1]


def account(revision: WantedRevision) -> sandbox.Account:
    """It gives whom the replicas of a revision run as; this takes the start of an interpreter."""
    card = Path(revision.bundle_path) / "bundle.json"
    return sandbox.account_for(_python(revision), owner=revision.owner, reads=[card])


def section(
    place: Place,
    environment: str,
    endpoint: str,
    revision: WantedRevision,
    index: int,
    account: sandbox.Account,
) -> dict[str, str]:
    """It describes one replica to the supervisor."""
    bundle = Path(revision.bundle_path)
    python = _python(revision)
    socket = place.socket(revision.id, index)
    spool = place.spool / str(revision.id)
    argv = [str(python), "-P", "-m", "model_server", "serve", "--bundle", str(bundle)]
    argv += ["--socket", str(socket), "--endpoint", endpoint, "--environment", environment]
    argv += ["--revision", str(revision.id), "--version", str(revision.version)]
    argv += ["--spool", str(spool), "--replica", str(index), *_options(revision.running)]
    env = {
        "PYTHONPATH": str(bundle / "server"),
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(socket.parent),
        "TMPDIR": str(socket.parent),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # a bundle never changes
        # More replicas use more processors; a model that takes all would slow the others.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    if revision.runtime == "url":
        env["PORTAL_REMOTE_SERVERS"] = ",".join(settings.REMOTE_SERVERS)
    line = sandbox.command(
        argv, env=env, limits=limits_of(revision), cwd=bundle, account=account,
        reads=[*sandbox.read_by(python), bundle], writes=[socket.parent, spool],
        mark=place.mark(revision.id, index),
    )  # fmt: skip
    return {
        "command": shlex.join(line).replace("%", "%%"),
        "autostart": "true",
        "autorestart": "true",
        "startsecs": str(SETTLED_SECONDS),
        "startretries": "1000000",
        "stopsignal": "TERM",
        "stopwaitsecs": str(DRAIN_SECONDS),
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": str(place.logs / f"{name_of(revision.id, index)}.log"),
        "stdout_logfile_maxbytes": "5MB",
        "stdout_logfile_backups": "2",
    }


def _python(revision: WantedRevision) -> Path:
    return Path(revision.environment_path) / "bin/python"


def _options(running: Running) -> list[str]:
    """What differs from how the server runs by itself."""
    options = []
    if running.workers > 1:
        options += ["--workers", str(running.workers)]
    if running.batch_rows:
        options += ["--batch-rows", str(running.batch_rows)]
        options += ["--batch-wait-ms", f"{running.batch_wait_ms:g}"]
    if running.body_bytes != Running.body_bytes:
        options += ["--max-body-bytes", str(running.body_bytes)]
    if running.capture_share < 1:
        options += ["--capture-share", f"{running.capture_share:g}"]
    # One argument each: a column may be called like an option.
    return options + [f"--redact={column}" for column in running.redact]


def limits_of(revision: WantedRevision) -> sandbox.Limits:
    """The hard limit, of each process: twice what a replica is replaced at, so that it is warned
    of by a drained restart and not by a request that fails."""
    most_mb = max(4096, 2 * revision.running.memory_mb + 1024)
    limits = sandbox.Limits(
        memory_bytes=most_mb << 20, open_files=8192, processors=revision.running.processors
    )
    # Some languages reserve far more addresses than they ever use.
    return limits.of_data() if revision.runtime == "command" else limits


def read(path: Path) -> dict[str, dict[str, str]]:
    """It reads what `write` wrote: name -> section."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text())
    except (FileNotFoundError, configparser.Error):
        return {}
    return {name.removeprefix("program:"): dict(parser[name]) for name in parser.sections()}


def write(path: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    """It writes the file of a revision; with its last section it goes, and what lies beside it."""
    if not sections:
        path.unlink(missing_ok=True)
        for left in ("starts.json", "surge"):
            path.with_name(f"{path.stem}.{left}").unlink(missing_ok=True)
        return
    parser = configparser.RawConfigParser()
    for name, options in sections.items():
        parser[f"program:{name}"] = options
    text = StringIO()
    parser.write(text)
    if path.exists() and path.read_text() == text.getvalue():
        return
    temporary = path.with_suffix(".new")
    temporary.write_text(text.getvalue())
    temporary.rename(path)
