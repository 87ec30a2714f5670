"""Throughput and CPU of whole migrations, beside what the same bytes cost without one.

Two references, all with the same congestion control and interleaved run by run: a plain blocking
`sendall` of as much cold memory into a `recv_into` of memory that the receiver has touched before;
and iperf3, which resends one hot buffer and so is faster than memory can be.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pageferry.common.wire.congestion import DEFAULT_CONGESTION
from scripts.bench_children import Child, free_port, migrated
from scripts.bench_rows import Bar, Bench, Effort, Row, absent, at_most, ratio_at_least, row

GIB = 2**30
CHANNELS = 4
SENDALL = "sendall"
IPERF = "iperf3"


@dataclass(frozen=True)
class Transfer:
    """One run. bytes: on the wire; cpu of each end, s."""

    bytes: int
    seconds: float
    source_cpu_s: float
    dest_cpu_s: float

    @property
    def rate(self) -> float:
        """MB/s."""
        return self.bytes / self.seconds / 1e6

    @property
    def source_cost(self) -> float:
        """CPU seconds per GB."""
        return self.source_cpu_s / self.bytes * 1e9

    @property
    def dest_cost(self) -> float:
        """CPU seconds per GB."""
        return self.dest_cpu_s / self.bytes * 1e9


Way = Callable[[], Transfer]

# What a row is called, its unit, the bar that it has, its figure.
MEASURES: tuple[tuple[str, str, str, Callable[[Transfer], float]], ...] = (
    ("throughput", "MB/s", "throughput", lambda each: each.rate),
    ("source", "CPU s/GB", "cpu", lambda each: each.source_cost),
    ("destination", "CPU s/GB", "cpu", lambda each: each.dest_cost),
)


def migration(size: int, *, checksum: bool = True, **options: object) -> Transfer:
    """A whole one: an idle guest, pre-copy, unlimited unless the options say otherwise."""
    settled = {
        "memory": size,
        "strategy": "pre-copy",
        "max_bandwidth": math.inf,
        "checksum": checksum,
        "congestion": DEFAULT_CONGESTION,
        **options,
    }
    report = migrated(**settled)
    assert report.total_time_ms is not None  # noqa: S101
    assert report.cpu_s is not None  # noqa: S101
    return Transfer(
        report.bytes_on_wire,
        report.total_time_ms / 1e3,
        report.cpu_s.source,
        report.cpu_s.dest or 0.0,
    )


def stream(kind: str, size: int, streams: int = 1, *, touched: bool = True) -> Transfer:
    """See `bench_stream`."""
    shared = kind, str(size), str(streams)
    module = "scripts.bench_stream"
    with Child.python(module, "receive", *shared, str(int(touched))) as receiver:
        port = receiver.line()
        with Child.python(module, "send", *shared, port) as sender:
            sent = json.loads(sender.end().stdout)
            received = json.loads(receiver.end().stdout)
    return Transfer(sent["bytes"], sent["seconds"], sent["cpu_s"], received["cpu_s"])


def iperf3(size: int, streams: int = 1) -> Transfer:
    """CPU of either end's whole life; its start is a few milliseconds of that."""
    port = str(free_port())
    server = ["iperf3", "--server", "--one-off", "--port", port, "--bind", "127.0.0.1"]
    client = ["iperf3", "--client", "127.0.0.1", "--port", port, "--json"]
    # Bytes and not seconds: iperf3 reads a fraction of a second as 0, which means for ever.
    client += ["--bytes", str(size), "--parallel", str(streams), "-C", DEFAULT_CONGESTION]
    with Child([*server, "--forceflush"]) as listening:
        while "listening" not in listening.line():
            pass
        with Child(client) as sending:
            ended = sending.end()
        served = listening.end()
    total = json.loads(ended.stdout)["end"]["sum_received"]
    return Transfer(total["bytes"], total["seconds"], ended.cpu_s, served.cpu_s)


def interleaved(ways: dict[str, Way], runs: int) -> dict[str, list[Transfer]]:
    """A B C A B C: what the machine does meanwhile is the same for all."""
    found: dict[str, list[Transfer]] = defaultdict(list)
    for _ in range(runs):
        for name, way in ways.items():
            found[name].append(way())
    return found


def compared(
    name: str,
    found: dict[str, list[Transfer]],
    ours: str,
    against: str,
    *,
    throughput: Bar | None = None,
    cpu: Bar | None = None,
) -> list[Row]:
    """Throughput and CPU of one way against another."""
    if against not in found:
        return [absent(f"{name}; against {against}", f"{against} is not installed")]
    mine, theirs = found[ours], found[against]
    out = []
    for end, unit, bar, of in MEASURES:
        bars = {"throughput": throughput, "cpu": cpu}
        values, references = [of(each) for each in mine], [of(each) for each in theirs]
        out.append(row(end, unit, values, references, group=name, against=against, bar=bars[bar]))
    return out


def with_references(ways: dict[str, Way], size: int, streams: int) -> dict[str, Way]:
    ways = {**ways, SENDALL: lambda: stream("plain", size, streams)}
    if shutil.which("iperf3"):
        ways[IPERF] = lambda: iperf3(size, streams)
    return ways


def one_channel(effort: Effort) -> list[Row]:
    """1 GiB, idle, unlimited. References have no checksums: the bars are for ours without."""
    size = effort.size(GIB)
    ways: dict[str, Way] = {
        "no checksums": lambda: migration(size, checksum=False),
        "checksums": lambda: migration(size),
    }
    ways = with_references(ways, size, 1)
    fresh = "sendall into memory never touched"
    ways[fresh] = lambda: stream("plain", size, touched=False)
    found = interleaved(ways, effort.runs)
    title = "1 channel, no checksums"
    cpu = at_most(0.2)
    return [
        *compared(title, found, "no checksums", SENDALL, throughput=ratio_at_least(0.9), cpu=cpu),
        *compared(title, found, "no checksums", IPERF, throughput=ratio_at_least(0.75)),
        *compared("1 channel, with checksums", found, "checksums", "no checksums"),
        *compared(fresh, found, fresh, SENDALL),
    ]


def channels(effort: Effort) -> list[Row]:
    """The same over several connections."""
    title = f"{CHANNELS} channels, no checksums"
    size = effort.size(GIB)
    ways: dict[str, Way] = {
        "ours": lambda: migration(size, checksum=False, channels=CHANNELS),
    }
    found = interleaved(with_references(ways, size, CHANNELS), effort.runs)
    return [
        *compared(title, found, "ours", SENDALL),
        *compared(title, found, "ours", IPERF),
    ]


def pages(effort: Effort) -> list[Row]:
    """The agents' sending and receiving rooms alone, with pages side by side or every third."""
    size = effort.size(GIB // 2)
    ways: dict[str, Way] = {
        kind: partial(stream, kind, size)
        for kind in ("contiguous", "scattered", "scattered+checksum")
    }
    found = interleaved(with_references(ways, size, 1), effort.runs)
    return [
        *compared("rooms, all pages", found, "contiguous", SENDALL),
        *compared("rooms, every third page", found, "scattered", SENDALL),
        *compared(
            "rooms, every third page",
            found,
            "scattered",
            IPERF,
            throughput=ratio_at_least(0.45),
            cpu=at_most(0.35),
        ),
        *compared("rooms, every third page, checksums", found, "scattered+checksum", "scattered"),
    ]


def zero(effort: Effort) -> list[Row]:
    """How much sooner a guest is over nine tenths of whose pages hold nothing, at 100 MB/s."""
    size = effort.size(GIB // 4)

    def seconds(share: str) -> float:
        workload = f"idle:zero-share={share}"
        return migration(size, max_bandwidth=100e6, workload=workload).seconds

    values, references = [], []
    for _ in range(effort.runs):
        values.append(size / seconds("90%") / 1e6)
        references.append(size / seconds("0%") / 1e6)
    title = "guest memory a second, 90 % zero, 100 MB/s"
    bar = ratio_at_least(4)
    return [row(title, "MB/s", values, references, against="none zero", bar=bar)]


BENCHES: dict[str, Bench] = {
    "one-channel": one_channel,
    "channels": channels,
    "pages": pages,
    "zero": zero,
}
