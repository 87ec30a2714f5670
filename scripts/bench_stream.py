"""Both ends of a stream of memory, as two processes: `python -m scripts.bench_stream END ...`.

    receive KIND BYTES STREAMS TOUCHED     says its port, then {"cpu_s": ...}
    send    KIND BYTES STREAMS PORT        says {"seconds": ..., "cpu_s": ..., "bytes": ...}

KIND `plain` is what anybody would write: a blocking `sendall` of memory that is not in the cache
of the processor, into `recv_into`. The others send through the agents' own rooms: `contiguous`,
`scattered` (every third page), each also with `+checksum`. BYTES of pages travel in any case.
TOUCHED 1: the receiver's memory has been written before; 0: the kernel has yet to find its pages.

Time runs from the first byte to the receiver's word that it has the last one. CPU is that of the
process in this time.
"""

from __future__ import annotations

import json
import math
import mmap
import socket
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import tcp
from pageferry.common.wire.congestion import DEFAULT_CONGESTION

EVERY = 3
DONE = b"!"
STALL_S = 30.0


def say(**fields: float) -> None:
    print(json.dumps(fields), flush=True)


def tune(sock: socket.socket) -> None:
    tcp.tune(sock, DEFAULT_CONGESTION, STALL_S)


def listening(streams: int) -> list[socket.socket]:
    """The connections that came, once the first byte has."""
    with socket.create_server(("127.0.0.1", 0), backlog=streams) as listener:
        tune(listener)
        print(listener.getsockname()[1], flush=True)
        socks = [listener.accept()[0] for _ in range(streams)]
    for sock in socks:
        tune(sock)
    socks[0].recv(1, socket.MSG_PEEK)
    return socks


def connected(streams: int, port: int) -> list[socket.socket]:
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(streams)]
    for sock in socks:
        tune(sock)
    return socks


def in_threads(
    work: Callable[[socket.socket, memoryview], None], socks: list[socket.socket], view: memoryview
) -> None:
    """Each stream's share of the memory."""
    share = len(view) // len(socks)
    threads = [
        threading.Thread(target=work, args=(sock, view[i * share : (i + 1) * share]))
        for i, sock in enumerate(socks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def plain_memory(n: int) -> tuple[memoryview, NDArray[np.uint64]]:
    """As a guest's: of small pages."""
    memory = mmap.mmap(-1, n, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memoryview(memory), np.frombuffer(memory, np.uint64)


def receive_share(sock: socket.socket, view: memoryview) -> None:
    while view:
        n = sock.recv_into(view)
        if n == 0:
            raise SystemExit("the sender ended too early")
        view = view[n:]


def receive_plain(n: int, streams: int, touched: bool) -> None:
    view, words = plain_memory(n)
    if touched:
        words[:: PAGE_SIZE // 8] = 1
    socks = listening(streams)
    cpu = time.process_time()
    in_threads(receive_share, socks, view)
    socks[0].sendall(DONE)
    say(cpu_s=time.process_time() - cpu)


def send_plain(n: int, streams: int, port: int) -> None:
    view, words = plain_memory(n)
    words[:] = np.random.default_rng(1).integers(0, 2**64, len(words), np.uint64)
    socks = connected(streams, port)
    start, cpu = time.monotonic(), time.process_time()
    in_threads(socket.socket.sendall, socks, view)
    socks[0].recv(1)
    say(seconds=time.monotonic() - start, cpu_s=time.process_time() - cpu, bytes=n)


def receive_pages(kind: str, n: int, streams: int, touched: bool) -> None:
    from pageferry.common.guest.memory import GuestMemory
    from pageferry.common.wire.budget import Budget
    from pageferry.common.wire.stream_format import StreamFormat
    from pageferry.dest_agent.precopy.page_placer import GuestPlacer
    from pageferry.dest_agent.precopy.page_receiver import PageReceiver

    memory = GuestMemory(n * EVERY if kind.startswith("scattered") else n)
    if touched:
        memory.words[:: PAGE_SIZE // 8] = 1
    everybody = GuestPlacer(memory)
    placers = [everybody.channel() for _ in range(streams)]  # compiled code is loaded by then
    ended, failures = threading.Event(), list[Exception]()

    def failed(error: Exception) -> None:
        failures.append(error)
        ended.set()

    checked = kind.endswith("+checksum")
    inflow = PageReceiver(
        placers.pop,
        memory.n_pages,
        streams,
        lambda _index, _t_ns: ended.set(),
        failed,
        Budget(),
        stream=StreamFormat(checksum=checked),
    )
    socks = listening(streams)
    cpu = time.process_time()
    for i, sock in enumerate(socks):
        inflow.attach(i, sock)
    ended.wait()
    if failures:
        raise SystemExit(str(failures[0]))
    socks[0].sendall(DONE)
    say(cpu_s=time.process_time() - cpu)
    inflow.close()


def send_pages(kind: str, n: int, streams: int, port: int) -> None:
    from pageferry.common.guest.memory import GuestMemory
    from pageferry.common.wire.pacing import Pacer
    from pageferry.common.wire.stream_format import StreamFormat
    from pageferry.source_agent.precopy.batches import RoundPages
    from pageferry.source_agent.precopy.page_sender import PageSender

    every = EVERY if kind.startswith("scattered") else 1
    memory = GuestMemory(n * every)
    memory.fill(1)
    pages = np.arange(0, memory.n_pages, every)
    memory.zero_pages(pages[:1])  # compiled code is loaded by then
    socks = connected(streams, port)
    page_sender = PageSender(
        memory, socks, Pacer(math.inf), stream=StreamFormat(checksum=kind.endswith("+checksum"))
    )
    start, cpu = time.monotonic(), time.process_time()
    totals, _ = page_sender.send_round(RoundPages(pages), 1)
    socks[0].recv(1)
    say(seconds=time.monotonic() - start, cpu_s=time.process_time() - cpu, bytes=totals.bytes)
    page_sender.close()


def main(end: str, kind: str, size: str, count: str, last: str) -> None:
    n, streams = int(size), int(count)
    if end == "send" and kind == "plain":
        send_plain(n, streams, int(last))
    elif end == "send":
        send_pages(kind, n, streams, int(last))
    elif kind == "plain":
        receive_plain(n, streams, last == "1")
    else:
        receive_pages(kind, n, streams, last == "1")


if __name__ == "__main__":
    main(*sys.argv[1:])
