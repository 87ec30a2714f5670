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
import socket
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from common.guest.memory import GuestMemory
from common.units import PAGE_SIZE
from common.wire import channel
from common.wire.pacing import Pacer
from dest_agent.inflow import Inflow
from dest_agent.placer import GuestPlacer
from source_agent.outflow import Cargo, Outflow

EVERY = 3
DONE = b"!"
STALL_S = 30.0


def say(**fields: float) -> None:
    print(json.dumps(fields), flush=True)


def tune(sock: socket.socket) -> None:
    channel.tune(sock, channel.DEFAULT_CONGESTION, STALL_S)


def accept(streams: int, listener: socket.socket) -> list[socket.socket]:
    socks = [listener.accept()[0] for _ in range(streams)]
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


def receive_all(sock: socket.socket, view: memoryview) -> None:
    while view:
        n = sock.recv_into(view)
        if n == 0:
            raise SystemExit("the sender ended too early")
        view = view[n:]


def memory_of(kind: str, n: int) -> GuestMemory:
    """That which `n` bytes are sent of."""
    return GuestMemory(n * EVERY if kind.startswith("scattered") else n)


def receive(kind: str, n: int, streams: int, touched: bool) -> None:
    memory = memory_of(kind, n)
    if touched:
        memory.words[:: PAGE_SIZE // 8] = 1
    placers = [GuestPlacer(memory) for _ in range(streams)]  # compiled code is loaded by then
    with socket.create_server(("127.0.0.1", 0), backlog=streams) as listener:
        tune(listener)
        print(listener.getsockname()[1], flush=True)
        socks = accept(streams, listener)
    socks[0].recv(1, socket.MSG_PEEK)
    cpu = time.process_time()
    if kind == "plain":
        in_threads(receive_all, socks, memory.view)
        socks[0].sendall(DONE)
        say(cpu_s=time.process_time() - cpu)
        return
    ended, failures = threading.Event(), list[Exception]()

    def failed(error: Exception) -> None:
        failures.append(error)
        ended.set()

    inflow = Inflow(
        placers.pop,
        memory.n_pages,
        streams,
        lambda _index, _t_ns: ended.set(),
        failed,
        checked=kind.endswith("+checksum"),
    )
    for i, sock in enumerate(socks):
        inflow.attach(i, sock)
    ended.wait()
    if failures:
        raise SystemExit(str(failures[0]))
    socks[0].sendall(DONE)
    say(cpu_s=time.process_time() - cpu)
    inflow.close()


def send(kind: str, n: int, streams: int, port: int) -> None:
    memory = memory_of(kind, n)
    memory.fill(1)
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(streams)]
    for sock in socks:
        tune(sock)
    if kind == "plain":
        start, cpu = time.monotonic(), time.process_time()
        in_threads(socket.socket.sendall, socks, memory.view)
        socks[0].recv(1)
        say(seconds=time.monotonic() - start, cpu_s=time.process_time() - cpu, bytes=n)
        return
    pages = np.arange(0, memory.n_pages, EVERY if kind.startswith("scattered") else 1)
    outflow = Outflow(memory, socks, Pacer(math.inf), checked=kind.endswith("+checksum"))
    start, cpu = time.monotonic(), time.process_time()
    tally, _ = outflow.send_round(Cargo(pages), 1)
    socks[0].recv(1)
    say(seconds=time.monotonic() - start, cpu_s=time.process_time() - cpu, bytes=tally.bytes)
    outflow.close()


def main(end: str, kind: str, n: str, streams: str, last: str) -> None:
    if end == "send":
        send(kind, int(n), int(streams), int(last))
    else:
        receive(kind, int(n), int(streams), last == "1")


if __name__ == "__main__":
    main(*sys.argv[1:])
