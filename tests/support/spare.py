"""Processes of pageferry that start at once: forked from a spare one that has everything loaded.

What a process costs before its first line of work (a second of imports and kernels) is most of what
a thousand tests with real processes would take. Here `subprocess` keeps its whole interface, and
the process that it starts is a real child with its own id, descriptors, signals and exit code; it
only has not been loaded anew. Its own agents are started in the same way.

    the test ---- asks ----> spare -- forks --> a process that forks the new one, and ends
    the test <-------------- adopts (as a subreaper) --------------- the new one

Only `[sys.executable, "-P", "-m", "pageferry...", ...]` is started so (and `dying_threads`, which
breaks what is loaded and runs it), in an environment that says nothing about how Python or a
library is loaded, within a control group where a shell is asked to put it there by `ENTER`; and
inside of `with_us_loaded` whatever else Python runs. Everything else, and everything where
PAGEFERRY_TEST_FULL or PAGEFERRY_TEST_LOADED_ANEW is set, is started as ever. This file imports the
standard library only: the spare process runs it by its path.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

HERE = Path(__file__).resolve().parents[2]
ANEW = ("PAGEFERRY_TEST_FULL", "PAGEFERRY_TEST_LOADED_ANEW")
COMM = b"spare"  # the name of spare processes in /proc/PID/comm
PATIENCE_S = 60.0
MOST = 2**18  # a request's bytes: its environment above all

_NAME, _DEATH_SIGNAL, _SUBREAPER = 15, 1, 36  # <linux/prctl.h>
_LIBC = ctypes.CDLL(None)
# Variables that may differ: they are asked for while a process runs. One that ends in _ stands for
# all that begin so.
_ASKED_LATER = (
    *("PYTHONASYNCIODEBUG", "PYTEST_", "TERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"),
    *("TMPDIR", "HOME", "TZ", "XDG_RUNTIME_DIR", "JPY_"),
)
# `/bin/sh -c ENTER FOLDER COMMAND...` runs a command in the control group (v1) of that folder.
ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
# What starts processes of its own; agents don't.
_STARTS_OTHERS = ("pageferry.cli", "pageferry.sweeps.cell", "tests.support.dying_threads")
_ALONE = {"dest", "source", "report", "host", "trace", "workload", "certs", "net", "inject"}

_AT_ONCE = threading.local()  # `wanted`: in a thread whose processes are not loaded anew
_WITH_US = threading.local()  # `wanted`: in a thread whose processes may be anything of Python

_exec = subprocess._fork_exec  # type: ignore[attr-defined]


class Wanted(NamedTuple):
    """A process to be started, as `subprocess` passes it on."""

    args: list[str]  # of Python: `-P` where it is given, then `-m`, `-c` or a file
    enter: str  # the folder of a control group; empty: ours
    kept: list[int]
    cwd: bytes | None
    environment: list[bytes] | None
    streams: tuple[int, int, int]  # -1: as ours
    new_session: bool
    group: int


class Spare:
    """What forks for us. One for each process: only a descendant's orphans can be adopted."""

    def __init__(self, talk: socket.socket, process: subprocess.Popen[bytes] | None = None) -> None:
        talk.settimeout(PATIENCE_S)
        self._talk = talk
        self._process = process
        self._owner = os.getpid()
        self._one_at_a_time = threading.Lock()

    @property
    def is_ours(self) -> bool:
        """Not in a process that a test has forked from ours."""
        return os.getpid() == self._owner

    def start(self, wanted: Wanted) -> int:
        """Start it; return its process id, which is that of a child."""
        streams = [own if fd < 0 else fd for own, fd in enumerate(wanted.streams)]
        with self._one_at_a_time, _subreaper():
            request = json.dumps(_request(wanted)).encode()
            socket.send_fds(self._talk, [request], [*streams, *wanted.kept])
            return int(self._talk.recv(64))

    def end(self) -> None:
        """It ends, and what it has started stays."""
        self._talk.close()
        if self._process is not None:
            self._process.wait(PATIENCE_S)


def _request(wanted: Wanted) -> dict[str, Any]:
    """All that a child gets from the process that starts it, but for its descriptors."""
    given = wanted.environment
    variables = os.environb.items() if given is None else (word.split(b"=", 1) for word in given)
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return {
        "args": wanted.args,
        "enter": wanted.enter,
        "with_us": hasattr(_WITH_US, "wanted"),
        "kept": wanted.kept,
        "cwd": os.getcwd() if wanted.cwd is None else os.fsdecode(wanted.cwd),
        "environment": {os.fsdecode(key): os.fsdecode(value) for key, value in variables},
        "new_session": wanted.new_session,
        "group": wanted.group,
        "parent": os.getpid(),
        "held": [int(number) for number in held],
        "ignored": [n for n in _numbers() if signal.getsignal(n) is signal.SIG_IGN],
        "limits": [resource.getrlimit(each) for each in _LIMITS],
        "cpus": sorted(os.sched_getaffinity(0)),
    }


def _numbers() -> list[int]:
    return [int(n) for n in signal.valid_signals() if n not in {signal.SIGKILL, signal.SIGSTOP}]


@contextlib.contextmanager
def _subreaper() -> Iterator[None]:
    """Adopt the orphans of our descendants, for no longer than one is awaited."""
    _LIBC.prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        _LIBC.prctl(_SUBREAPER, 0, 0, 0, 0)


def runs(pid: int, module: str) -> bool:
    """Whether that process was started as `python -m module`, loaded anew or not."""
    folder = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        tail = module.rpartition(".")[2].encode()
        words = (folder / "cmdline").read_bytes().split(b"\0")
        return module.encode() in words or (folder / "comm").read_bytes().strip() == tail[:15]
    return False


def is_spare(pid: int) -> bool:
    """Whether that process only waits to become another one."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_bytes().strip() == COMM
    return False


class Starter:
    """Stands for `subprocess._fork_exec`."""

    def __init__(self, make_spare: Callable[[], Spare]) -> None:
        self._make_spare = make_spare
        self._spare: Spare | None = None
        self._making = threading.Lock()

    def __call__(self, *given: Any) -> int:
        wanted = _wanted(given)
        if wanted is None or not (spare := self._ready()).is_ours:
            return int(_exec(*given))
        return spare.start(wanted)

    def end(self) -> None:
        """Start everything anew again."""
        subprocess._fork_exec = _exec  # type: ignore[attr-defined]
        if self._spare is not None and self._spare.is_ours:
            self._spare.end()

    def _ready(self) -> Spare:
        with self._making:
            if self._spare is None:
                self._spare = self._make_spare()
            return self._spare


def _wanted(given: tuple[Any, ...]) -> Wanted | None:
    """What `subprocess` wants; None: not something that a spare process can become."""
    args, _, close_fds, kept, cwd, variables, p2c, _, _, c2p, _, err, _, failure = given[:14]
    _, new_session, group, gid, groups, uid, umask, before = given[14:22]
    words = [os.fsdecode(word) for word in args]
    enter = words[3] if words[:3] == ["/bin/sh", "-c", ENTER] else ""
    words = words[4:] if enter else words
    ours = ("pageferry.", "tests.support.dying_threads")
    like_ours = words[:3] == [sys.executable, "-P", "-m"] and words[3].startswith(ours)
    if hasattr(_WITH_US, "wanted") and words[:1] == [sys.executable]:
        how = words[2] if words[1] == "-P" else words[1]  # -P FILE: the spare process itself
        like_ours = how in ("-m", "-c") or words[1].endswith(".py")
    special = (gid, groups, uid, before) != (None,) * 4 or umask != -1 or not close_fds
    anew = any(os.environ.get(name) for name in ANEW) and not hasattr(_AT_ONCE, "wanted")
    if not like_ours or special or anew:
        return None
    if variables is not None and not all(map(_is_harmless, _differing(variables))):
        return None
    passed_on = sorted(set(kept) - {failure})
    return Wanted(words[1:], enter, passed_on, cwd, variables, (p2c, c2p, err), new_session, group)


def _differing(variables: list[bytes]) -> set[str]:
    """Names of variables that differ from those of this process."""
    there = dict(word.split(b"=", 1) for word in variables)
    if there.get(b"PYTHONPATH") == os.fsencode(HERE):  # where everything is loaded from anyway
        del there[b"PYTHONPATH"]
    here = dict(os.environb)
    return {os.fsdecode(k) for k in {*there, *here} if there.get(k) != here.get(k)}


def _is_harmless(name: str) -> bool:
    return any(name == each or (each[-1] == "_" and name.startswith(each)) for each in _ASKED_LATER)


def use_spare() -> Starter:
    """From now on processes of pageferry start from a spare one, which is loaded when needed."""
    starter = Starter(_loaded_spare)
    subprocess._fork_exec = starter  # type: ignore[attr-defined]
    return starter


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Start processes from the spare one that is in use, though others are loaded anew."""
    _AT_ONCE.wanted = True
    try:
        yield
    finally:
        del _AT_ONCE.wanted


@contextlib.contextmanager
def with_us_loaded() -> Iterator[None]:
    """What Python starts here, and what that starts, has us loaded: for programs of our users."""
    _WITH_US.wanted = True
    try:
        yield
    finally:
        del _WITH_US.wanted


def _loaded_spare() -> Spare:
    """A new process that loads everything, and then waits for us; it ends by our end."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(its.fileno())],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=HERE,
        )
    assert ours.recv(64) == b"loaded"
    return Spare(ours, process)


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
    safe = wanted["args"][0] == "-P"
    how, *arguments = wanted["args"][safe:]
    module = arguments.pop(0) if how == "-m" else ""
    if wanted["enter"]:
        Path(wanted["enter"], "cgroup.procs").write_text(f"{os.getpid()}\n")
    starts_others = module in _STARTS_OTHERS and not _ALONE.intersection(arguments[:1])
    starts_others |= wanted["with_us"]
    own_spare = _forked_spare(keep=wanted["fds"]) if starts_others else None
    kept = _place_descriptors(wanted, own_spare)
    # As its command line would say.
    _LIBC.prctl(_NAME, (module.rpartition(".")[2] or "python").encode())
    _take_over(wanted)
    subprocess._fork_exec = _exec if kept is None else Starter(lambda: kept)  # type: ignore[attr-defined]
    sys.argv = [module or how, *arguments]
    if wanted["with_us"]:
        _WITH_US.wanted = True
    for loaded in (module, f"{module}.__main__"):
        sys.modules.pop(loaded, None)  # it runs as __main__
    if module == "pytest":  # it rewrites our plug-in's asserts as it loads it
        for loaded in [name for name in sys.modules if name.partition(".")[0] == "pageferry"]:
            del sys.modules[loaded]
    if not safe:
        sys.path.insert(0, os.getcwd() if how in ("-m", "-c") else os.path.dirname(how))
    _leave(_run(how, module))


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
    for limit, values in zip(_LIMITS, wanted["limits"], strict=True):
        if resource.getrlimit(limit) != tuple(values):
            resource.setrlimit(limit, values)
    os.sched_setaffinity(0, wanted["cpus"])
    for number in _numbers():
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
    path = list(sys.path)
    sys.path.insert(0, str(HERE))
    runpy.run_module("tests.support.spare_preload")
    sys.path[:] = path
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()  # what is loaded stays: nobody looks through it, or copies it, for that
    talk.send(b"loaded")
    become(serve(talk))


if __name__ == "__main__":
    main()
