"""It starts a command of the author's, keeps its last words, and ends it with this process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from model_server.card import ServingCard, program
from model_server.errors import NotLoadable

# The same wherever a replica runs: what the build has proved is what serves.
PATH = "/usr/local/bin:/usr/bin:/bin"
GRACE_SECONDS = 3.0
TAIL_BYTES = 4096
MAX_SOCKET_BYTES = 107  # of a path, by the kernel
_PR_SET_PDEATHSIG = 1
_FRAME = re.compile(r"\s+(at |File )|\s*\^+\s*$")


class CommandEnded(NotLoadable):
    """It says that the command ended before it was ready."""


class Child:
    """It is one running command, in a process group of its own."""

    def __init__(self, card: ServingCard, *, name: str, socket: Path) -> None:
        if len(os.fsencode(socket)) > MAX_SOCKET_BYTES:
            raise NotLoadable(f"the path of the command's socket is too long: {socket}")
        socket.unlink(missing_ok=True)
        self.socket = socket
        self._tail = bytearray()
        self._stopping = False
        parent, libc = os.getpid(), ctypes.CDLL(None)

        def die_with_parent() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        self._process = subprocess.Popen(
            [resolved(card), *card.command[1:]],
            cwd=card.directory,
            env=_environment(socket, name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # harmless: no other thread holds a lock yet
        )
        self._reader = threading.Thread(target=self._read, name="command", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """It is the process, and the process group, of the command."""
        return self._process.pid

    def poll(self) -> int | None:
        """It gives the code that the command ended with, negative for a signal, or None."""
        return self._process.poll()

    def last_words(self) -> str:
        """It gives the last lines that the command wrote."""
        lines = bytes(self._tail).decode("utf-8", "replace").splitlines()
        # Where it happened fills a screen in most languages; what happened is one line before.
        told = [line.strip() for line in lines if line.strip() and not _FRAME.match(line)]
        return " | ".join(told[-5:])[-1000:]

    def described(self) -> str:
        """It says in words how the command ended."""
        self._reader.join(1.0)  # its last words may still be on their way
        code, words = self.poll(), self.last_words()
        how = f"the command ended with code {code}"
        return f"{how}; its last words were: {words}" if words else f"{how} and said nothing"

    def watch(self, ended: Callable[[int], None]) -> None:
        """It calls back, from a thread, when the command ends by itself."""

        def wait() -> None:
            code = self._process.wait()
            if not self._stopping:
                ended(code)

        threading.Thread(target=wait, name="command-end", daemon=True).start()

    def kill(self) -> None:
        """It ends a command that hangs; whoever watches is told."""
        self._signal(signal.SIGKILL)

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """It ends the command and what it started: gently first, then by force."""
        self._stopping = True
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_seconds)
        # Also what outlived its parent, as the program behind a shell does.
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join(1.0)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()
        self.socket.unlink(missing_ok=True)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _read(self) -> None:
        output = self._process.stdout
        assert output is not None
        while part := os.read(output.fileno(), 65536):
            self._tail += part
            del self._tail[:-TAIL_BYTES]
            # Whoever cannot write must still read, or the command would wait for it for ever.
            with contextlib.suppress(OSError, ValueError):
                os.write(sys.stderr.fileno(), part)


def resolved(card: ServingCard) -> str:
    """It finds the program: among the artifacts, or on the system. Raises: NotLoadable."""
    name = card.command[0]
    own = program(card)
    found = shutil.which(str(own or name), path=PATH)
    if found is not None:
        return found
    if own is not None:
        raise NotLoadable(f"the program {name!r} among the artifacts is not executable")
    raise NotLoadable(f"the program {name!r} is not installed here: it is not in {PATH}")


def _environment(socket: Path, name: str) -> dict[str, str]:
    """The command gets what we have, without what only Python code of ours needs."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, "PATH": PATH, "PORTAL_SOCKET": str(socket), "PORTAL_MODEL_NAME": name}
