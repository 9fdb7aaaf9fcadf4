"""Becomes one of the product's processes: `python -m mlops_portal.stack.run NAME`.

The supervisor starts this, so that what it watches is the server itself and not a wrapper.
"""

import ctypes
import os
import signal
import sys

from mlops_portal.stack import config, programs

PR_SET_PDEATHSIG = 1


def main(name: str) -> None:
    """It prepares the program and replaces this process by it."""
    program = programs.named(name)
    image = program.prepare(config.load())
    parent = os.getppid()
    image.cwd.mkdir(parents=True, exist_ok=True)
    os.chdir(image.cwd)
    if image.uid is not None and image.gid is not None:
        os.setgroups([])
        os.setgid(image.gid)
        os.setuid(image.uid)
    # After the change of user, which clears it: a killed supervisor leaves nothing behind.
    number = getattr(signal, f"SIG{program.stop_signal}")
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        sys.exit(f"{name}: the supervisor ended while this was starting")
    os.execve(image.argv[0], image.argv, dict(image.env))


if __name__ == "__main__":
    main(sys.argv[1])
