"""Two QEMUs on this machine, and one migration between them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from pageferry.common.errors import PageferryError
from scripts.bench_children import Child, folder
from scripts.bench_qemu_boot import READY, START, TAIL, boot_sector, firmware
from scripts.bench_qmp import Qmp

PROGRAM = "qemu-system-x86_64"
START_S = 120.0
PROBE_S = 2.0
UNLIMITED = 2**40
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Accelerator:
    """native: the guest's 64-bit code runs on the processor, it is not interpreted."""

    name: str
    native: bool

    def __str__(self) -> str:
        return self.name if self.native else f"{self.name}, which interprets here"


@dataclass(frozen=True)
class QemuCase:
    """What is migrated, and how. memory, working_set: bytes; rates: bytes/s, 0: none.

    preallocated: the destination's memory. post_copy: switched at once. timeout_s: then cancelled.
    """

    memory: int
    working_set: int = 0
    dirty_rate: float = 0.0
    max_bandwidth: float = 0.0
    preallocated: bool = False
    post_copy: bool = False
    capabilities: Sequence[str] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 120.0


@dataclass(frozen=True)
class Outcome:
    """How a migration went. downtime_ms: None where the guest never moved.

    total_ms: until the source is no longer needed, or until it was given up. CPU without vCPUs.
    """

    total_ms: float
    downtime_ms: float | None
    bytes: int
    source_cpu_s: float
    dest_cpu_s: float
    faults: int = 0


@cache
def accelerator() -> Accelerator:
    """KVM where it works. It says by a guest of 1 MiB to fill whether it runs the guest's code."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Accelerator("tcg", native=True)  # compiled
    with folder() as where:
        image = where / "probe.rom"
        image.write_bytes(firmware(boot_sector(START + TAIL + 2 * 2**20)))
        try:
            with Machine(where, "probe", image, "kvm", START + TAIL + 2 * 2**20) as machine:
                start = time.monotonic()
                machine.await_ready()
                native = time.monotonic() - start < PROBE_S / 4
                return Accelerator("kvm", native)
        except PageferryError:
            return Accelerator("tcg", native=True)


class Machine:
    """A QEMU. contents: a file that is loaded into memory from `START` on. incoming: it waits."""

    def __init__(
        self,
        where: Path,
        name: str,
        image: Path,
        accel: str,
        memory: int,
        *,
        contents: Path | None = None,
        incoming: bool = False,
        preallocated: bool = False,
    ) -> None:
        path = where / f"{name}.sock"
        arguments = [PROGRAM, "-nodefaults", "-no-user-config", "-display", "none"]
        arguments += ["-accel", accel, "-machine", "pc,memory-backend=pc.ram", "-m", f"{memory}B"]
        arguments += ["-object", _backend(memory, preallocated), "-bios", str(image)]
        arguments += ["-qmp", f"unix:{path},server=on,wait=off", "-debugcon", "stdio"]
        arguments += ["-name", f"{name},debug-threads=on"]
        if contents is not None:
            arguments += ["-device", f"loader,file={contents},addr={START},force-raw=on"]
        if incoming:
            arguments += ["-incoming", "defer"]
        with contextlib.ExitStack() as closing:
            self._child = closing.enter_context(Child(arguments))
            self.qmp = Qmp(closing.enter_context(_connected(path, self._child)))
            self._closing = closing.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def await_ready(self) -> None:
        """Until the guest has said that its memory is filled."""
        while READY not in self._child.line():
            pass

    def cpu_s(self) -> float:
        """CPU time so far of all threads but the vCPUs, to 10 ms."""
        folder_of = Path(f"/proc/{self._child.process.pid}")
        total = ticks_of(folder_of / "stat")
        for task in (folder_of / "task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if (task / "comm").read_text().startswith("CPU "):
                    total -= ticks_of(task / "stat")
        return total / TICKS_PER_S


def _backend(memory: int, preallocated: bool) -> str:
    prealloc = "on" if preallocated else "off"
    return f"memory-backend-ram,id=pc.ram,size={memory},prealloc={prealloc}"


def ticks_of(stat: Path) -> int:
    """utime + stime; the name before them may hold anything, but ends with the last bracket."""
    words = stat.read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def _connected(path: Path, child: Child) -> socket.socket:
    """To a socket that the program is about to make."""
    deadline = time.monotonic() + START_S
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()
            if child.process.poll() is not None or time.monotonic() > deadline:
                raise PageferryError(f"{PROGRAM} did not start: {child.last_words()}") from None
            time.sleep(0.01)
        else:
            return sock


@contextlib.contextmanager
def contents_of(where: Path, memory: int) -> Iterator[Path]:
    """A file that fills such a guest with what does not compress."""
    path = where / f"contents-{memory}"
    if not path.exists():
        size = memory - START - TAIL
        path.write_bytes(np.random.default_rng(1).bytes(size))
    yield path


def migrated(case: QemuCase, where: Path, accel: Accelerator) -> Outcome:
    """Boot it, wait until its memory is filled, migrate it. where: a folder for its files."""
    image = where / "guest.rom"
    sector = boot_sector(case.memory, case.working_set, case.dirty_rate, fills=accel.native)
    image.write_bytes(firmware(sector))
    with contextlib.ExitStack() as closing:
        contents = None
        if not accel.native:
            contents = closing.enter_context(contents_of(where, case.memory))
        shared = where, image, accel.name, case.memory

        def machine(name: str, **options: Any) -> Machine:
            return closing.enter_context(Machine(shared[0], name, *shared[1:], **options))

        source = machine("source", contents=contents)
        dest = machine("dest", incoming=True, preallocated=case.preallocated)
        source.await_ready()
        return _migrate(case, source, dest)


def _set_up(case: QemuCase, source: Machine, dest: Machine) -> str:
    """Everything but the start; where the destination listens."""
    names = ["events", *case.capabilities, *(["postcopy-ram"] if case.post_copy else [])]
    chosen = [{"capability": name, "state": True} for name in names]
    for each in (source.qmp, dest.qmp):
        each.execute("migrate-set-capabilities", capabilities=chosen)
    limit = int(case.max_bandwidth) or UNLIMITED
    parameters = {"max-bandwidth": limit, "max-postcopy-bandwidth": limit}
    parameters |= {"downtime-limit": 300, **case.parameters}
    source.qmp.execute("migrate-set-parameters", **parameters)
    dest.qmp.execute("migrate-incoming", uri="tcp:127.0.0.1:0")
    (address,) = dest.qmp.execute("query-migrate")["socket-address"]
    return f"tcp:127.0.0.1:{address['port']}"


def _migrate(case: QemuCase, source: Machine, dest: Machine) -> Outcome:
    uri = _set_up(case, source, dest)
    cpu = source.cpu_s(), dest.cpu_s()
    begin, deadline = time.time(), time.monotonic() + case.timeout_s
    source.qmp.execute("migrate", uri=uri)
    if case.post_copy:
        while not source.qmp.first("MIGRATION", ("active",)):
            source.qmp.wait(1.0)
        source.qmp.execute("migrate-start-postcopy")
    while not (ended := source.qmp.first("MIGRATION", ENDED)):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        source.qmp.wait(left)
    known = source.qmp.execute("query-migrate")
    if ended is not None and ended.data["status"] != "completed":
        raise PageferryError(f"QEMU's migration {ended.data['status']}: {known.get('error-desc')}")
    while ended and not dest.qmp.first("RESUME"):
        dest.qmp.wait(1.0)
    spent = source.cpu_s() - cpu[0], dest.cpu_s() - cpu[1]
    ram = known.get("ram", {})
    total, downtime = (time.time() - begin), None
    if ended is not None:
        stopped, resumed = source.qmp.first("STOP"), dest.qmp.first("RESUME")
        assert stopped is not None  # noqa: S101
        assert resumed is not None  # noqa: S101
        total = max(ended.t_s, resumed.t_s) - begin
        downtime = (resumed.t_s - stopped.t_s) * 1e3
    faults = ram.get("postcopy-requests", 0)
    return Outcome(total * 1e3, downtime, ram.get("transferred", 0), *spent, faults)


def installed() -> bool:
    return shutil.which(PROGRAM) is not None
