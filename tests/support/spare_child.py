"""The spare process, and what is forked from it: see `spare.py`.

It runs as a script, by its path, and finds our tests' package itself.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import io
import json
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(HERE))
from tests.support.spare import (  # noqa: E402 - found only now
    COMM,
    ENTERING,
    LEFT,
    LIMITS,
    MOST,
    WITH_US,
    Spare,
    Starter,
    comm_of,
    is_ours,
    signal_numbers,
    start_anew,
)

_NAME, _DEATH_SIGNAL = 15, 1  # <linux/prctl.h>
_LIBC = ctypes.CDLL(None)
# What starts processes of its own; agents don't.
_STARTS_OTHERS = ("pageferry.cli", "pageferry.sweeps.cell", "tests.support.dying_threads")
_ALONE = {"dest", "source", "report", "host", "trace", "workload", "certs", "net", "inject"}


def serve(talk: socket.socket) -> dict[str, Any]:
    """Fork whenever we are asked to. Returns in the new processes, with what each is to become."""
    _LIBC.prctl(_NAME, COMM)
    # They are for whom we belong to; those for a new process wait until it is ready for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        request, fds, _, _ = socket.recv_fds(talk, MOST, 250)
        if not request:
            os._exit(0)
        between = os.fork()
        if between == 0:
            middle = os.getpid()
            if os.fork():
                os._exit(0)
            wanted = dict(json.loads(request))
            while (parent := os.getppid()) != wanted["parent"]:  # until it is adopted
                if parent != middle:  # nobody waits for it any more
                    os._exit(1)
                os.sched_yield()
            # As whoever started it may signal its group from now on.
            if wanted["new_session"]:
                os.setsid()
            if wanted["group"] >= 0:
                os.setpgid(0, wanted["group"])
            talk.send(str(os.getpid()).encode())
            wanted["fds"] = fds
            return wanted
        for fd in fds:
            os.close(fd)
        os.waitpid(between, 0)


def become(wanted: dict[str, Any]) -> NoReturn:
    """Be the process that was asked for, from its first line to its exit."""
    words = wanted["args"]
    module, arguments = (words[3], words[4:]) if is_ours(words) else ("", [])
    for limit, values in zip(LIMITS, wanted["limits"], strict=True):
        if resource.getrlimit(limit) != tuple(values):
            resource.setrlimit(limit, values)
    if wanted["steps"]:
        os.dup2(wanted["fds"][2], 2)  # for what they have to say
        runpy.run_path(str(ENTERING))["enter"](wanted["steps"])
    is_session = ["session"] in wanted["steps"]
    others = is_session or wanted["with_us"]
    others |= module in _STARTS_OTHERS and not _ALONE.intersection(arguments[:1])
    own_spare = _forked_spare(keep=wanted["fds"]) if others else None
    kept = _place_descriptors(wanted, own_spare)
    _take_over(wanted)
    if is_session and kept is not None:
        os.environ[LEFT] = kept.leave()
        os.execv(words[0], words)  # noqa: S606 - it is what was asked for
    subprocess._fork_exec = start_anew if kept is None else Starter(lambda: kept)  # type: ignore[attr-defined]
    if module == "pageferry.net.enter":
        os.execvp = _enter_network  # type: ignore[assignment]
    if wanted["with_us"]:
        WITH_US.wanted = True
    _be(words[1:])


def _be(words: list[str]) -> NoReturn:
    """Run what stands behind `python`: -P where it is given, then -m, -c or a file."""
    safe = words[0] == "-P"
    how, *arguments = words[safe:]
    module = arguments.pop(0) if how == "-m" else ""
    _LIBC.prctl(_NAME, comm_of(module))  # as its command line would say
    sys.argv = [module or how, *arguments]
    for loaded in (module, f"{module}.__main__"):
        sys.modules.pop(loaded, None)  # it runs as __main__
    if not safe:
        sys.path.insert(0, os.getcwd() if how in ("-m", "-c") else os.path.dirname(how))
    _leave(_run(how, module))


def _enter_network(program: str, words: list[str]) -> NoReturn:
    """In place of `exec` by what is in a network already: an agent is not loaded anew there."""
    if is_ours(words):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        _be(words[1:])
    os.execvpe(program, words, os.environ)  # noqa: S606 - it is what was asked for


def _run(how: str, module: str) -> int:
    """Run it as `python -m`, `python -c` or `python FILE` does; its exit code."""
    try:
        if module:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        elif how == "-c":
            exec(compile(sys.argv.pop(1), "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
        else:
            runpy.run_path(how, run_name="__main__")
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001 (told to whoever reads it)
        traceback.print_exc()
        return 1
    return 0


def _leave(code: int) -> NoReturn:
    """End as an interpreter does, without taking apart all that has been loaded."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _forked_spare(keep: list[int]) -> socket.socket | None:
    """A spare process of our own; it goes on in `serve`, and returns from it where it is needed."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        its.close()
        return ours
    _LIBC.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    ours.close()
    for fd in keep:
        os.close(fd)
    become(serve(its))


def _place_descriptors(wanted: dict[str, Any], own_spare: socket.socket | None) -> Spare | None:
    """The three streams and what is passed on get their numbers; nothing else stays open."""
    numbers = [0, 1, 2, *wanted["kept"]]
    above = max(numbers) + 1
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in wanted["fds"]]
    talk = (
        None if own_spare is None else fcntl.fcntl(own_spare.detach(), fcntl.F_DUPFD_CLOEXEC, above)
    )
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd not in {*high, talk}:
            with contextlib.suppress(OSError):  # that of the folder itself
                os.close(fd)
    for fd, number in zip(high, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)
    if talk is None:
        return None
    os.set_inheritable(talk, False)
    return Spare(socket.socket(fileno=talk))


def _take_over(wanted: dict[str, Any]) -> None:
    """What a new process inherits, and what Python does with it as it starts."""
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    more = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:0] = [folder for folder in more if folder not in sys.path]
    tempfile.tempdir = None
    os.sched_setaffinity(0, wanted["cpus"])
    for number in signal_numbers():
        ignored = number in wanted["ignored"] or number in {signal.SIGPIPE, signal.SIGXFSZ}
        with contextlib.suppress(OSError):  # what the C library keeps for itself
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    if signal.SIGINT not in wanted["ignored"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, wanted["held"])
    for name, fd, mode, errors in (
        ("stdin", 0, "r", "strict"),
        ("stdout", 1, "w", "strict"),
        ("stderr", 2, "w", "backslashreplace"),
    ):
        stream = _stream(fd, mode, errors)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _stream(fd: int, mode: str, errors: str) -> io.TextIOWrapper:
    by_line = fd == 2 or os.isatty(fd)
    raw = open(fd, f"{mode}b", closefd=False)  # noqa: SIM115 (for the process's life)
    stream = io.TextIOWrapper(raw, sys.__stdout__.encoding, errors, line_buffering=by_line)  # type: ignore[union-attr]
    stream.mode = mode  # type: ignore[misc]
    return stream


def main() -> None:
    """The spare process itself, which loads everything."""
    talk = socket.socket(fileno=int(sys.argv[1]))
    runpy.run_module("tests.support.spare_preload")
    sys.path.remove(str(HERE))
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()  # what is loaded stays: nobody looks through it, or copies it, for that
    talk.send(b"loaded")
    become(serve(talk))


if __name__ == "__main__":
    main()
