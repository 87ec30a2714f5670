"""Processes of pageferry that start at once: forked from a spare one that has everything loaded.

What a process costs before its first line of work (a second of imports and kernels) is most of what
a thousand tests with real processes would take. Here `subprocess` keeps its whole interface, and
the process that it starts is a real child with its own id, descriptors, signals and exit code; it
only has not been loaded anew. Its own agents are started in the same way.

    the test ---- asks ----> spare -- forks --> a process that forks the new one, and ends
    the test <-------------- adopts (as a subreaper) --------------- the new one

Only `[sys.executable, "-P", "-m", "pageferry...", ...]` is started so (and `dying_threads`, which
breaks what is loaded and runs it), in an environment that says nothing about how Python or a
library is loaded; and inside of `with_us_loaded` whatever else Python runs. Everything else, and
everything where PAGEFERRY_TEST_FULL or PAGEFERRY_TEST_LOADED_ANEW is set, is started as ever.
`entering.py` may stand before it; and before pytest, which is loaded anew, but gets a spare process
of its own.

Here is the end that asks; `spare_child.py` is the other one. This file imports the standard library
only: a session of pytest may load it by its path.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parents[2]
ENTERING = Path(__file__).resolve().with_name("entering.py")
CHILD = Path(__file__).resolve().with_name("spare_child.py")
LEFT = "PAGEFERRY_TEST_SPARE"  # where a session of pytest finds the spare process that it has
ANEW = ("PAGEFERRY_TEST_FULL", "PAGEFERRY_TEST_LOADED_ANEW")
COMM = b"spare"  # the name of spare processes in /proc/PID/comm
SILENT = HERE / ".pytest_cache/silent_spares"  # one line for each that did not answer
PATIENCE_S = 20.0
MOST = 2**18  # a request's bytes: its environment above all

_SUBREAPER = 36  # <linux/prctl.h>
_LIBC = ctypes.CDLL(None)
# Variables that may differ: they are asked for while a process runs. One that ends in _ stands for
# all that begin so.
_ASKED_LATER = (
    *("PYTHONASYNCIODEBUG", "PYTEST_", "TERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"),
    *("TMPDIR", "HOME", "TZ", "XDG_RUNTIME_DIR", "JPY_"),
)
LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]

_AT_ONCE = threading.local()  # `wanted`: in a thread whose processes are not loaded anew
WITH_US = threading.local()  # `wanted`: in a thread whose processes may be anything of Python

start_anew = subprocess._fork_exec  # type: ignore[attr-defined]


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

    def give_up(self) -> None:
        """It may end when it likes; what it was asked for does not come to be."""
        self._talk.close()
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """It ends, and what it has started stays."""
        self._talk.close()
        if self._process is not None:
            self._process.wait(PATIENCE_S)


def _note_silence() -> None:
    """Keep for the session's end what spare processes do in the kernel, and whose children."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_text()
            if f"({COMM.decode()})" in stat:
                found.append(f"{stat[:60]} {(folder / 'wchan').read_text()}")
    with contextlib.suppress(OSError):
        SILENT.parent.mkdir(exist_ok=True)
        with SILENT.open("a") as file:
            file.write(f"asked by {os.getpid()}: {found}\n")


def _request(wanted: Wanted) -> dict[str, Any]:
    """All that a child gets from the process that starts it, but for its descriptors."""
    given = wanted.environment
    variables = os.environb.items() if given is None else (word.split(b"=", 1) for word in given)
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return {
        "steps": wanted.steps,
        "args": wanted.args,
        "with_us": hasattr(WITH_US, "wanted"),
        "kept": wanted.kept,
        "cwd": os.getcwd() if wanted.cwd is None else os.fsdecode(wanted.cwd),
        "environment": {os.fsdecode(key): os.fsdecode(value) for key, value in variables},
        "new_session": wanted.new_session,
        "group": wanted.group,
        "parent": os.getpid(),
        "held": [int(number) for number in held],
        "ignored": [n for n in signal_numbers() if signal.getsignal(n) is signal.SIG_IGN],
        "limits": [resource.getrlimit(each) for each in LIMITS],
        "cpus": sorted(os.sched_getaffinity(0)),
    }


def signal_numbers() -> list[int]:
    """Those that a process may handle."""
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
        return module.encode() in words or (folder / "comm").read_bytes().strip() == comm_of(module)
    return False


def comm_of(module: str) -> bytes:
    """What stands in /proc/PID/comm of a process that was forked to run it."""
    return (module.rpartition(".")[2] or "python").encode()[:15]


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
        self._silent = False
        self._making = threading.Lock()

    def __call__(self, *given: Any) -> int:
        wanted = _wanted(given, self._in_session)
        if wanted is None or self._silent or not (spare := self._ready()).is_ours:
            return int(start_anew(*given))
        try:
            return spare.start(wanted)
        except TimeoutError:  # whatever it was about to start ends, as nobody hears of it
            self._silent = True
            _note_silence()
            spare.give_up()
            return int(start_anew(*given))

    def end(self) -> None:
        """Start everything anew again."""
        subprocess._fork_exec = start_anew  # type: ignore[attr-defined]
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
    like_ours = is_ours(words) or ["session"] in steps
    if hasattr(WITH_US, "wanted") and words[:1] == [sys.executable]:
        how = words[2] if words[1] == "-P" else words[1]  # -P FILE: the spare process itself
        like_ours = how in ("-m", "-c") or words[1].endswith(".py")
    special = (gid, groups, uid, before) != (None,) * 4 or umask != -1 or not close_fds
    anew = any(os.environ.get(name) for name in ANEW) and not hasattr(_AT_ONCE, "wanted")
    changed = () if variables is None else _differing(variables)
    if not like_ours or special or anew or not all(map(_is_harmless, changed)):
        return None
    passed_on = sorted(set(kept) - {failure})
    return Wanted(steps, words, passed_on, cwd, variables, (p2c, c2p, err), new_session, group)


def is_ours(words: list[str]) -> bool:
    """Whether a command runs a module of ours, or one that runs it."""
    modules = ("pageferry.", "tests.support.dying_threads")
    return words[:3] == [sys.executable, "-P", "-m"] and words[3].startswith(modules)


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
def _wanted_here(what: threading.local) -> Iterator[None]:
    what.wanted = True
    try:
        yield
    finally:
        del what.wanted


def at_once() -> contextlib.AbstractContextManager[None]:
    """Start processes from the spare one that is in use, though others are loaded anew."""
    return _wanted_here(_AT_ONCE)


def with_us_loaded() -> contextlib.AbstractContextManager[None]:
    """What Python starts here, and what that starts, has us loaded: for programs of our users."""
    return _wanted_here(WITH_US)


def _loaded_spare() -> Spare:
    """A new process that loads everything, and then waits for us; it ends by our end."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-P", str(CHILD), str(its.fileno())],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=HERE,
        )
    assert ours.recv(64) == b"loaded"
    return Spare(ours, process)
