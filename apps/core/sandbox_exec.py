"""Becomes another program that gets nothing of ours: `python -I sandbox_exec.py JSON`.

Standard library only, and run by its path: it may be started where the panel's packages are not.
The JSON holds argv, env, limits, cwd, writes, uid, gid, death_signal (apps/core/sandbox.py).
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CANNOT = 127  # what a shell answers for a command it could not start


def main(spec: dict[str, Any]) -> None:
    """It gives up what the program must not have and replaces this process by it."""
    parent = os.getppid()
    # The supervisor has made this process the leader of its own group already.
    with contextlib.suppress(PermissionError):
        os.setsid()
    os.umask(0o077)
    for path in spec["writes"]:
        os.makedirs(path, mode=0o700, exist_ok=True)  # noqa: PTH103  pathlib costs a start 10 ms
        if spec["uid"] is not None:
            os.chown(path, spec["uid"], spec["gid"])
    for name, value in spec["limits"].items():
        limit(getattr(resource, name), value)
    if spec["uid"] is not None:
        os.setgroups([])
        os.setgid(spec["gid"])
        os.setuid(spec["uid"])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # After the change of user, which clears it: whoever started this leaves nothing behind.
    libc.prctl(PR_SET_PDEATHSIG, getattr(signal, spec["death_signal"]), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("sandbox: what started this has ended")
    if spec["cwd"]:
        os.chdir(spec["cwd"])
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    # Python ignores it and a program inherits that: it would write on into a closed pipe.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execve(spec["argv"][0], spec["argv"], spec["env"])


def limit(what: int, value: int) -> None:
    """It sets a limit that the program cannot lift again, never above the one we have."""
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except OSError as failed:
        sys.stderr.write(f"sandbox: cannot start the program: {failed}\n")
        sys.exit(CANNOT)
