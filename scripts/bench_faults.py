"""Page faults.

The reference of a fault is a plain ping-pong, a request of 16 bytes for an answer of 4 KiB and its
header, compiled like the rest and pinned the same way in the same run: idle wake-ups across cores
cost what they cost that day.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pageferry.common.config.guest import GuestConfig
from pageferry.common.config.prepage import Prepage
from pageferry.common.guest.compiling import compile_kernels
from pageferry.common.guest.control import new_scratch
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.native import monotonic_ns
from pageferry.common.guest.syscalls import c_recv, c_send
from pageferry.common.report.schema import Report
from pageferry.common.units import PAGE_SIZE, format_size, format_time
from pageferry.common.wire import encoder
from pageferry.common.wire.bulk_receiver import BulkReceiver
from pageferry.common.wire.bulk_sender import BulkSender
from pageferry.common.wire.extents import from_pages
from pageferry.common.wire.frames import Frame, PagesFrame
from pageferry.common.wire.pacing import Pacer
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.dest_agent.postcopy.fault_handler import FaultHandler
from pageferry.dest_agent.postcopy.mechanism import Mechanism
from pageferry.source_agent.postcopy.page_server import PageServer
from scripts.bench_rows import Bench, Effort, Row, row
from tests.support.harness import destination, pageferry
from tests.support.relay import relay

MEMORY = 256 * 2**20
TOUCHES = 3000
PING_PONG = "ping-pong"
ANSWER = 16 + 8 + PAGE_SIZE
WAITALL = 0x100
RATE_BPS = 100e6
BUSY = "uniform:working-set=1MiB,scatter=true"


@njit(nogil=True)
def touch(words: Any, pages: Any, took_ns: Any, scratch: Any) -> int:
    """Read a word of each page; ns of each."""
    total = np.uint64(0)
    for i in range(len(pages)):
        start = monotonic_ns(scratch)
        total += words[pages[i] * 512 + 8]
        took_ns[i] = monotonic_ns(scratch) - start
    return int(total)


@njit(nogil=True)
def ping(fd: int, buffer: Any, took_ns: Any, scratch: Any) -> None:
    for i in range(len(took_ns)):
        start = monotonic_ns(scratch)
        c_send(fd, buffer.ctypes.data, 16, 0)
        c_recv(fd, buffer.ctypes.data, ANSWER, WAITALL)
        took_ns[i] = monotonic_ns(scratch) - start


@njit(nogil=True)
def pong(fd: int, buffer: Any) -> None:
    while c_recv(fd, buffer.ctypes.data, 16, WAITALL) == 16:
        c_send(fd, buffer.ctypes.data, ANSWER, 0)


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    with one, other:
        for sock in (one, other):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield one, other


def pin(name: str, cpus: set[int]) -> None:
    """The thread of this name; a fault's and the ping-pong's are pinned the same way."""
    for thread in threading.enumerate():
        if thread.name == name and thread.native_id:
            os.sched_setaffinity(thread.native_id, cpus)


def run(function: Callable[..., object], *args: object, cpus: set[int] | None = None) -> None:
    """In a thread, to its end."""

    def body() -> None:
        if cpus is not None:
            os.sched_setaffinity(0, cpus)
        function(*args)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()


def ping_pong(here: set[int], there: set[int], n: int) -> NDArray[np.int64]:
    """ns of each round trip."""
    took = np.zeros(n, np.int64)
    with tcp_pair() as (one, other):
        far = threading.Thread(
            target=pong, args=(other.fileno(), np.zeros(ANSWER, np.uint8)), name="pong"
        )
        far.start()
        pin("pong", there)
        run(ping, one.fileno(), np.zeros(ANSWER, np.uint8), took, new_scratch(), cpus=here)
        one.shutdown(socket.SHUT_RDWR)
        far.join()
    return took


@contextmanager
def missing(
    effort: Effort,
    mechanism: str,
    here: set[int],
    there: set[int],
    *,
    checked: bool = True,
    **options: Any,
) -> Iterator[tuple[FaultHandler, PageServer, Guest, Guest]]:
    """(faults, server, source, destination): a guest whose pages are all missing, and served."""
    config = GuestConfig(memory=effort.size(MEMORY), **options)
    with contextlib.ExitStack() as closing:
        source = Guest(config, boot=True)
        closing.callback(source.close)
        source.start()
        dest = Guest(config, boot=False)
        closing.callback(dest.close)
        name: Any = mechanism
        faults = FaultHandler(
            dest,
            Mechanism(name, "benchmark"),
            prepage=Prepage("0"),
            stream=StreamFormat(checksum=checked),
        )
        closing.callback(faults.close)
        server = PageServer(
            source.memory, np.zeros(config.pages, np.uint8), stream=StreamFormat(checksum=checked)
        )
        closing.callback(server.close)
        dest.restore(source.snapshot())
        dest.start()
        faults.arm(np.ones(config.pages, np.bool_))
        one, other = closing.enter_context(tcp_pair())
        server.serve(one)
        server.open()
        faults.connect(other)
        pin("page-server", there)
        pin("faults", here)
        yield faults, server, source, dest


def some_pages(effort: Effort) -> NDArray[np.int64]:
    """Page numbers to touch, at random."""
    pages = np.random.default_rng(2).permutation(effort.size(MEMORY) // PAGE_SIZE)
    return pages[: effort.count(TOUCHES)]


def touched(
    effort: Effort, here: set[int], there: set[int], *, checked: bool = True
) -> NDArray[np.int64]:
    """ns of each touch of a missing page, as whoever touches sees it."""
    pages = some_pages(effort)
    took = np.zeros(len(pages), np.int64)
    with missing(effort, "kernel", here, there, checked=checked) as (_, _, _, dest):
        run(touch, dest.memory.words, pages, took, new_scratch(), cpus=here)
    return took


def percentile(ns: NDArray[np.int64], q: float) -> float:
    return float(np.percentile(ns, q, method="inverted_cdf")) / 1e3


def latency(effort: Effort) -> list[Row]:
    load_kernels()
    cpus = sorted(os.sched_getaffinity(0))
    placements = {"on one core": ({cpus[0]}, {cpus[0]})}
    if len(cpus) > 1:
        placements["across cores"] = ({cpus[0]}, {cpus[1]})
    rows = []
    for name, (here, there) in placements.items():
        ours: dict[str, list[NDArray[np.int64]]] = {"": [], ", no checksums": []}
        theirs = []
        for _ in range(effort.runs):
            theirs.append(ping_pong(here, there, effort.count(TOUCHES)))
            for what, latencies in ours.items():
                latencies.append(touched(effort, here, there, checked=not what))
        for what, latencies in ours.items():
            for q in (50, 99):
                rows.append(
                    row(
                        f"fault {name}{what}, p{q}",
                        "us",
                        [percentile(x, q) for x in latencies],
                        [percentile(x, q) for x in theirs],
                        against=PING_PONG,
                    )
                )
    return rows


@contextmanager
def pushing(faults: FaultHandler, server: PageServer, source: Guest) -> Iterator[None]:
    """Bulk at 100 MB/s, what the page server sent counted in, for as long as the block runs."""
    staging, pacer = faults.staging(), Pacer(RATE_BPS)
    stop = threading.Event()
    with tcp_pair() as (one, other):
        sender, receiver = (
            BulkSender(one, pacer),
            BulkReceiver(other, staging, len(source.memory.pages)),
        )

        def send() -> None:
            out, charged = np.zeros(64, np.int64), 0
            while not stop.is_set() and len(pages := server.take_unsent(out)):
                urgent = server.sent_bytes
                pacer.reserve(urgent - charged, time.monotonic())
                charged = urgent
                extents = from_pages(pages)
                views = [
                    source.memory.view[first * PAGE_SIZE : (first + count) * PAGE_SIZE]
                    for first, count in extents.tolist()
                ]
                sender.send([encoder.encode_pages_head(extents), *views])
            one.shutdown(socket.SHUT_WR)

        def deliver(frame: Frame) -> None:
            if isinstance(frame, PagesFrame):  # no page of this guest is zero
                staging.arrived(frame)

        threads = [
            threading.Thread(target=send),
            threading.Thread(target=receiver.run, args=(deliver,)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def under_load(effort: Effort) -> list[Row]:
    """Bulk at 100 MB/s, and a guest whose two vCPUs compute flat out beside the one that faults."""
    load_kernels()
    everywhere = os.sched_getaffinity(0)
    ours, theirs = [], []
    pages = some_pages(effort)
    busy_config = GuestConfig(memory=16 * 2**20, vcpus=2, workload=BUSY)
    for _ in range(effort.runs):
        took = np.zeros(len(pages), np.int64)
        with (
            contextlib.closing(Guest(busy_config, boot=True)) as busy,
            missing(effort, "kernel", everywhere, everywhere) as (faults, server, source, dest),
        ):
            busy.start()
            busy.resume()
            with pushing(faults, server, source):
                theirs.append(ping_pong(everywhere, everywhere, effort.count(1000)))
                run(touch, dest.memory.words, pages, took, new_scratch())
                faulted = faults.stats().faults
            if faulted:  # the others had been pushed already
                ours.append(np.sort(took)[-faulted:])
    return [
        row(
            f"fault, 100 MB/s of bulk, 2 busy vCPUs, p{q}",
            "us",
            [percentile(x, q) for x in ours],
            [percentile(x, q) for x in theirs],
            against=PING_PONG,
        )
        for q in (50, 99)
    ]


def running_guest(effort: Effort) -> list[Row]:
    """A guest of two vCPUs that visits its pages at random while they come, at 100 MB/s."""
    load_kernels()
    everywhere = os.sched_getaffinity(0)
    rows = []
    load = "uniform:rate=50MB/s,working-set=50%"
    for mechanism in ("kernel", "software"):
        latencies = []
        for _ in range(effort.runs):
            with contextlib.ExitStack() as closing:
                here = everywhere, everywhere
                faults, server, source, dest = closing.enter_context(
                    missing(effort, mechanism, *here, vcpus=2, workload=load)
                )
                closing.enter_context(pushing(faults, server, source))
                dest.resume()
                time.sleep(effort.seconds(1.0))
                latencies.append(faults.take_faults()[:, 1])
        rows += [
            row(
                f"running guest, 100 MB/s, {mechanism}, p{q}",
                "us",
                [percentile(x, q) for x in latencies if len(x)],
            )
            for q in (50, 99)
        ]
    return rows


def long_wire(effort: Effort) -> list[Row]:
    """A whole migration, each byte under way for 5 ms, against what its bytes take at the rate."""
    rows = []
    memory = format_size(effort.size(512 * 2**20))
    options = ("--memory", memory, "--workload", "memory-intensive", "--max-bandwidth", "100MB/s")
    for strategy in ("post-copy", "pre-copy"):

        async def moved(strategy: str = strategy) -> Report:
            with destination("--once") as (_agent, port):
                async with relay(port, delay_s=0.005) as (_relay, relay_port):
                    run = await asyncio.to_thread(
                        pageferry,
                        *("source", "--to", f"127.0.0.1:{relay_port}", "--json", "-"),
                        *("--warmup", format_time(effort.seconds(1.0)), "--run-after", "100ms"),
                        *("--strategy", strategy, "--max-rounds", "2", *options),
                    )
            return run.report

        reports = [asyncio.run(moved()) for _ in range(effort.runs)]
        totals = [report.total_time_ms or 0.0 for report in reports]
        rows.append(
            row(
                f"{strategy}, round trip 10 ms, total",
                "ms",
                totals,
                [report.bytes_on_wire / RATE_BPS * 1e3 for report in reports],
                against="bytes / rate",
            )
        )
    return rows


def arming(effort: Effort) -> list[Row]:
    """Downtime's part: registering, and the map of what is missing, of memory never touched."""
    rows = []
    large, small = effort.size(4 * 2**30), effort.size(256 * 2**20)
    for mechanism in ("kernel", "software"):
        figures: dict[int, list[float]] = {small: [], large: []}
        for _ in range(effort.runs):
            for memory, values in figures.items():
                guest = Guest(GuestConfig(memory=memory), boot=False)
                name: Any = mechanism
                faults = FaultHandler(guest, Mechanism(name, "benchmark"))
                pages, written = np.full(guest.n_pages, True), np.full(guest.n_pages, False)
                start = time.perf_counter()
                faults.arm(pages, written=written)
                values.append((time.perf_counter() - start) * 1e3)
                faults.close()
                guest.close()
        title = f"arming 4 GiB, {mechanism}"
        rows.append(row(title, "ms", figures[large], figures[small], against="256 MiB"))
    return rows


@functools.cache
def load_kernels() -> None:
    """What is compiled is compiled before a clock runs."""
    compile_kernels(GuestConfig(memory=2**20, workload="uniform"))
    ping_pong(os.sched_getaffinity(0), os.sched_getaffinity(0), 10)
    touch(np.zeros(1024, np.uint64), np.zeros(1, np.int64), np.zeros(1, np.int64), new_scratch())


BENCHES: dict[str, Bench] = {
    "latency": latency,
    "load": under_load,
    "guest": running_guest,
    "arm": arming,
    "wire": long_wire,
}
