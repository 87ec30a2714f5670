"""Commands in surroundings of their own: of mounts, a network, a control group, another user.

`python -P entering.py STEPS COMMAND...` does what the steps say, and becomes that command. A
command of pageferry, or pytest, is not loaded anew there: a process forked from the spare one
(`spare_child.py`, which runs this by its path) takes the steps, and with it every process that it
starts. What a process finds as it is loaded is not looked at so; see `nobody` and `memory_limit`
for that.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

PATH = os.path.abspath(__file__)
_MOUNTS, _TIME = 0x00020000, 0x00000080  # <linux/sched.h>
_HOUR_S = 3600
_DUMPABLE, _KEEP, _BOUNDING_DROP, _NO_NEW, _AMBIENT = 4, 8, 24, 38, 47  # <linux/prctl.h>
_CAPABILITIES_3, _DAC_READ_SEARCH = 0x20080522, 2  # <linux/capability.h>
_LIBC = ctypes.CDLL(None, use_errno=True)

Step = tuple[str, ...]


def command(steps: Sequence[Step], words: Sequence[str]) -> list[str]:
    """What to start for it. Each step is a name of `STEPS`, and its arguments."""
    return [sys.executable, "-P", PATH, json.dumps(steps), *words]


def _done(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mounts_of_its_own() -> None:
    """What is mounted from now on is seen by this process and its children only."""
    _done(_LIBC.unshare(_MOUNTS))
    shell("mount --make-rprivate /")


def an_hour_ahead() -> None:
    """Clocks that count from the boot, and not the time of day, are an hour ahead from now on."""
    _done(_LIBC.unshare(_TIME))
    with open("/proc/self/timens_offsets", "w") as offsets:
        offsets.write(f"monotonic {_HOUR_S} 0\nboottime {_HOUR_S} 0\n")
    with open("/proc/self/ns/time_for_children") as ours:
        _done(_LIBC.setns(ours.fileno(), _TIME))


def network(name: str) -> None:
    """Join a network of `ip netns`, with its own names of hosts."""
    with open(f"/run/netns/{name}") as there:
        _done(_LIBC.setns(there.fileno(), 0))
    mounts_of_its_own()
    shell(f"mount --bind /etc/netns/{name}/hosts /etc/hosts")


def shell(script: str) -> None:
    """Run it first, whose $PPID is this process. Where it fails there is no command."""
    done = subprocess.run(["/bin/sh", "-c", script], stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        os._exit(done.returncode)


def group(folder: str) -> None:
    """Join the control group (v1) of that folder."""
    with open(f"{folder}/cgroup.procs", "w") as there:
        there.write(f"{os.getpid()}\n")


def user(number: str) -> None:
    """Become this user for good, as `nobody.as_nobody`: it may read what is closed to it."""
    _done(_LIBC.prctl(_KEEP, 1, 0, 0, 0))
    for capability in range(64):
        if capability != _DAC_READ_SEARCH:
            _LIBC.prctl(_BOUNDING_DROP, capability, 0, 0, 0)  # fails for those that there are not
    os.setgroups([])
    os.setresgid(*[int(number)] * 3)
    os.setresuid(*[int(number)] * 3)
    may = 1 << _DAC_READ_SEARCH
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    _done(_LIBC.capset(header, (ctypes.c_uint32 * 6)(may, may, may, 0, 0, 0)))
    _done(_LIBC.prctl(_AMBIENT, 2, _DAC_READ_SEARCH, 0, 0))
    _done(_LIBC.prctl(_NO_NEW, 1, 0, 0, 0))
    _done(_LIBC.prctl(_DUMPABLE, 1, 0, 0, 0))  # as after `exec`: its /proc is its own


def refused_userfaultfd() -> None:
    """As `confined` does."""
    sys.path.insert(0, os.path.dirname(PATH))
    import confined  # type: ignore[import-not-found]

    sys.path.pop(0)
    confined.refuse(confined.USERFAULTFD[os.uname().machine])


def address_space(kib: str) -> None:
    """So much beyond what this process has, as by `ulimit -v`: what it has loaded differs."""
    pages = int(open("/proc/self/statm").read().split()[0])  # noqa: SIM115
    limit = pages * os.sysconf("SC_PAGE_SIZE") + int(kib) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def nothing() -> None:
    """For a session of pytest, that it has a spare process."""


STEPS: Mapping[str, Callable[..., None]] = {
    "mounts": mounts_of_its_own,
    "an hour ahead": an_hour_ahead,
    "network": network,
    "shell": shell,
    "group": group,
    "user": user,
    "no userfaultfd": refused_userfaultfd,
    "address space": address_space,
    "session": nothing,
}


def enter(steps: Sequence[Sequence[str]]) -> None:
    """Take them, in this process."""
    for name, *arguments in steps:
        STEPS[name](*arguments)


if __name__ == "__main__":
    enter(json.loads(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - this is what it is for
