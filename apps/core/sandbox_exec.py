"""Becomes another program that gets nothing of ours: `python -I sandbox_exec.py JSON`.

Standard library only, and run by its path: it may be started where the panel's packages are not.
The JSON holds argv, env, limits, processors, cwd, reads, writes, uid, gid, death_signal, mark
(apps/core/sandbox.py).
Landlock: https://docs.kernel.org/userspace-api/landlock.html
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import stat
import struct
import sys
from typing import Any

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
MARK = "PORTAL_PROCESS_OF"  # in the environment of a program and all its children
CANNOT = 127  # what a shell answers for a command it could not start

LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446  # the same on every machine
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEVICE = 1 << 14, 1 << 15
RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: TRUNCATE, 5: IOCTL_DEVICE}  # by the version that knows
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE
NO_ABSTRACT_SOCKETS, NO_SIGNALS = 1 << 0, 1 << 1  # to processes outside, from version 6

# What any program needs to start, to resolve names and to check certificates; no other secrets of
# the machine: /etc has its password hashes, /dev its disks, /tmp what others left there.
SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/proc", "/sys",
    "/etc/alternatives", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/fonts",
    "/etc/gai.conf", "/etc/group", "/etc/host.conf", "/etc/hosts", "/etc/ld.so.cache",
    "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/mime.types",
    "/etc/nsswitch.conf", "/etc/OpenCL", "/etc/passwd", "/etc/pki", "/etc/protocols",
    "/etc/resolv.conf", "/etc/services", "/etc/ssl", "/etc/timezone", "/etc/vulkan",
    "/run/systemd/resolve",
)  # fmt: skip
DEVICES = (
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/shm",
    "/dev/dri", "/dev/kfd", "/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia2", "/dev/nvidia3",
    "/dev/nvidia4", "/dev/nvidia5", "/dev/nvidia6", "/dev/nvidia7", "/dev/nvidiactl",
    "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-caps",
)  # fmt: skip


def main(spec: dict[str, Any]) -> None:
    """It gives up what the program must not have and replaces this process by it."""
    parent = os.getppid()
    if spec["mark"]:
        end_left(spec["mark"])
        spec["env"][MARK] = spec["mark"]
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
    if spec["processors"]:
        share_processors(spec["processors"])
    libc = ctypes.CDLL(None, use_errno=True)
    become(libc, spec["uid"], spec["gid"])
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # After the change of user, which clears it: whoever started this leaves nothing behind.
    libc.prctl(PR_SET_PDEATHSIG, getattr(signal, spec["death_signal"]), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("sandbox: what started this has ended")
    if spec["cwd"]:
        os.chdir(spec["cwd"])
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if spec["reads"] is not None:
        confine(spec["reads"], spec["writes"])
    # Python ignores it and a program inherits that: it would write on into a closed pipe.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execve(spec["argv"][0], spec["argv"], spec["env"])


def become(libc: Any, uid: int | None, gid: int) -> None:
    """It turns into the account; whoever stays root keeps what root owns, none of its powers."""
    if uid is not None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if os.geteuid() == 0:
        for capability in range(64):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def end_left(mark: str) -> None:
    """It ends what programs of this mark left behind: helpers that outlived a killed parent."""
    wanted = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):  # noqa: PTH208  pathlib costs a start 10 ms
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/environ", "rb") as file:  # noqa: PTH123  as above
                told = file.read().split(b"\0")
            if any(one == wanted or one.startswith(wanted + b"/") for one in told):
                os.kill(int(entry), signal.SIGKILL)


def landlock() -> int:
    """It gives the version of Landlock that the kernel has, 0 where it has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(int(libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)), 0)


def confine(reads: list[str], writes: list[str]) -> None:
    """It takes every path away but these and what each program needs; for good, children too."""
    version = landlock()
    if not version:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    everything = sum(rights for since, rights in RIGHTS.items() if since <= version)
    scoped = NO_ABSTRACT_SOCKETS | NO_SIGNALS if version >= 6 else 0
    words = struct.pack("=QQQ", everything, 0, scoped)
    words = words[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = libc.syscall(LANDLOCK_CREATE, words, ctypes.c_size_t(len(words)), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "Landlock refuses the rules")
    for paths, rights in (
        ([*SYSTEM, *reads], EXECUTE | READ_FILE | READ_DIR),
        (DEVICES, everything),
        (writes, everything),
    ):
        for path in paths:
            allow(libc, ruleset, path, rights & everything)
    if libc.syscall(LANDLOCK_RESTRICT, ruleset, 0):
        raise OSError(ctypes.get_errno(), "Landlock does not confine the program")
    os.close(ruleset)


def allow(libc: Any, ruleset: int, path: str, rights: int) -> None:
    """It adds what may be done below a path; one that is not there is left out."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        rights &= OF_FILES
    beneath = struct.pack("=Qi", rights, place)
    if libc.syscall(LANDLOCK_ADD, ruleset, 1, beneath, 0):
        raise OSError(ctypes.get_errno(), f"Landlock refuses the rule for {path}")
    os.close(place)


def share_processors(count: int) -> None:
    """It keeps to so many processors: those whose turn it is by our process' number, so that
    programs with the same limit do not all meet on the first ones."""
    there = sorted(os.sched_getaffinity(0))
    first = os.getpid() % len(there)
    os.sched_setaffinity(0, [*there[first:], *there[:first]][:count])


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
