"""Runs a command under a seccomp filter that refuses userfaultfd(2): `python -m ... COMMAND...`.

That is what the default profiles of container engines do. Four instructions of classic BPF (see
seccomp(2) and <linux/bpf_common.h>): load the number of the system call, compare, refuse or allow.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

USERFAULTFD = {"x86_64": 323, "aarch64": 282}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def program(number: int) -> bytes:
    """What makes that system call fail with EPERM, as an array of `struct sock_filter`."""
    return b"".join(
        struct.pack("<HBBI", *instruction)
        for instruction in (
            (LOAD_WORD, 0, 0, 0),
            (JUMP_IF_EQUAL, 0, 1, number),
            (RETURN, 0, 0, REFUSE),
            (RETURN, 0, 0, ALLOW),
        )
    )


def refuse(number: int) -> None:
    """From now on this process and its children get EPERM from that system call."""
    buffer = ctypes.create_string_buffer(program(number))
    filters = _Program(4, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filters), 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse(USERFAULTFD[platform.machine()])
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - this is what it is for
