"""Processes of pageferry that start at once: forked from a spare one that has everything loaded.

What a process costs before its first line of work (a second of imports and kernels) is most of what
a thousand tests with real processes would take. Here `subprocess` keeps its whole interface, and
the process that it starts is a real child with its own id, descriptors, signals and exit code; it
only has not been loaded anew. Its own agents are started in the same way.

    the test ---- asks ----> spare -- forks --> a process that forks the new one, and ends
    the test <-------------- adopts (as a subreaper) --------------- the new one

Only `[sys.executable, "-P", "-m", "pageferry...", ...]` is started so, in an environment that says
nothing about how Python or a library is loaded: everything else, and everything where
PAGEFERRY_TEST_FULL or PAGEFERRY_TEST_LOADED_ANEW is set, is started as ever. `entering.py` may
stand before it; and before pytest, which is loaded anew, but gets a spare process of its own. This
file imports the standard library only: the spare process runs it by its path.
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
ENTERING = Path(__file__).resolve().with_name("entering.py")
LEFT = "PAGEFERRY_TEST_SPARE"  # where a session of pytest finds the spare process that it has
ANEW = ("PAGEFERRY_TEST_FULL", "PAGEFERRY_TEST_LOADED_ANEW")
COMM = b"spare"  # the name of spare processes in /proc/PID/comm
PATIENCE_S = 60.0
MOST = 2**18  # a request's bytes: its environment above all

_NAME, _DEATH_SIGNAL, _SUBREAPER = 15, 1, 36  # <linux/prctl.h>
_LIBC = ctypes.CDLL(None)
# Variables that may differ: they are asked for as a process runs. A _ ends what several begin with.
_ASKED_LATER = (
    *("PYTHONASYNCIODEBUG", "PYTEST_", "TERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"),
    *("TMPDIR", "HOME", "TZ", "XDG_RUNTIME_DIR"),
)
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
# What starts processes of its own; agents don't.
_STARTS_OTHERS = ("pageferry.cli", "pageferry.sweeps.cell")
_ALONE = {"dest", "source", "report", "host", "trace", "workload", "certs", "net", "inject"}

_AT_ONCE = threading.local()  # `wanted`: in a thread whose processes are not loaded anew

_exec = subprocess._fork_exec  # type: ignore[attr-defined]


class Wanted(NamedTuple):
    """A process to be started, as `subprocess` passes it on."""

    steps: list[list[str]]  # of `entering`
    args: list[str]
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

    def leave(self) -> str:
        """The descriptor by which it is talked to, for what this process becomes."""
        self._talk.set_inheritable(True)
        return str(self._talk.fileno())

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
        "steps": wanted.steps,
        "args": wanted.args,
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
        words = (folder / "cmdline").read_bytes().split(b"\0")
        return module.encode() in words or (folder / "comm").read_bytes().strip() == _comm(module)
    return False


def _comm(module: str) -> bytes:
    return module.rpartition(".")[2].encode()[:15]


def is_spare(pid: int) -> bool:
    """Whether that process only waits to become another one."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_bytes().strip() == COMM
    return False


class Starter:
    """Stands for `subprocess._fork_exec`."""

    def __init__(self, make_spare: Callable[[], Spare], *, in_session: bool = False) -> None:
        self._make_spare = make_spare
        self._in_session = in_session
        self._spare: Spare | None = None
        self._making = threading.Lock()

    def __call__(self, *given: Any) -> int:
        wanted = _wanted(given, self._in_session)
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


def _wanted(given: tuple[Any, ...], in_session: bool) -> Wanted | None:
    """What `subprocess` wants; None: not something that a spare process can become."""
    args, _, close_fds, kept, cwd, variables, p2c, _, _, c2p, _, err, _, failure = given[:14]
    _, new_session, group, gid, groups, uid, umask, before = given[14:22]
    words = [os.fsdecode(word) for word in args]
    steps: list[list[str]] = []
    if words[:3] == [sys.executable, "-P", str(ENTERING)]:
        steps, words = json.loads(words[3]), words[4:]
    if in_session and words[:3] == [sys.executable, "-u", "-c"]:  # a worker of xdist
        steps = [["session"]]
    like_ours = _is_ours(words) or ["session"] in steps
    special = (gid, groups, uid, before) != (None,) * 4 or umask != -1 or not close_fds
    anew = any(os.environ.get(name) for name in ANEW) and not hasattr(_AT_ONCE, "wanted")
    changed = () if variables is None else _differing(variables)
    if not like_ours or special or anew or not all(map(_is_harmless, changed)):
        return None
    ours = sorted(set(kept) - {failure})
    return Wanted(steps, words, ours, cwd, variables, (p2c, c2p, err), new_session, group)


def _is_ours(words: list[str]) -> bool:
    return words[:3] == [sys.executable, "-P", "-m"] and words[3].startswith("pageferry.")


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
            talk.send(str(os.getpid()).encode())
            wanted["fds"] = fds
            return wanted
        for fd in fds:
            os.close(fd)
        os.waitpid(between, 0)


def become(wanted: dict[str, Any]) -> NoReturn:
    """Be the process that was asked for, from its first line to its exit."""
    module, *arguments = wanted["args"][3:]
    for limit, values in zip(_LIMITS, wanted["limits"], strict=True):
        if resource.getrlimit(limit) != tuple(values):
            resource.setrlimit(limit, values)
    if wanted["steps"]:
        os.dup2(wanted["fds"][2], 2)  # for what they have to say
        runpy.run_path(str(ENTERING))["enter"](wanted["steps"])
    is_session = ["session"] in wanted["steps"]
    others = is_session or (module in _STARTS_OTHERS and not _ALONE.intersection(arguments[:1]))
    own_spare = _forked_spare(keep=wanted["fds"]) if others else None
    kept = _place_descriptors(wanted, own_spare)
    _take_over(wanted)
    if is_session and kept is not None:
        os.environ[LEFT] = kept.leave()
        os.execv(wanted["args"][0], wanted["args"])  # noqa: S606 - it is what was asked for
    subprocess._fork_exec = _exec if kept is None else Starter(lambda: kept)  # type: ignore[attr-defined]
    if module == "pageferry.net.enter":
        os.execvp = _enter_network  # type: ignore[assignment]
    _be(module, arguments)


def _be(module: str, arguments: list[str]) -> NoReturn:
    _LIBC.prctl(_NAME, _comm(module))  # as its command line would say
    sys.argv = [module, *arguments]
    for loaded in (module, f"{module}.__main__"):
        sys.modules.pop(loaded, None)  # it runs as __main__
    _leave(_run(module))


def _enter_network(program: str, words: list[str]) -> NoReturn:
    """In place of `exec` by what is in a network already: an agent is not loaded anew there."""
    if _is_ours(words):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        _be(words[3], words[4:])
    os.execvpe(program, words, os.environ)  # noqa: S606 - it is what was asked for


def _run(module: str) -> int:
    """Run it as `python -m` does; its exit code."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
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
    if wanted["new_session"]:
        os.setsid()
    if wanted["group"] >= 0:
        os.setpgid(0, wanted["group"])
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    tempfile.tempdir = None
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
