"""`python -m tests.fuzz.seeds`: the first inputs of each corpus, one of each legal kind."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import numpy as np

from pageferry.common.files.memory_trace import write_trace
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder, frames, messages
from pageferry.common.wire.deltas import DELTA_OF
from pageferry.common.wire.encoder import encode_delta_head, encode_packed_head
from pageferry.common.wire.extents import from_pages
from pageferry.common.wire.frames import FrameType
from pageferry.common.wire.packing import Codec, packer
from pageferry.runs.document import SeriesDocument
from pageferry.sweeps.columns import result_row
from pageferry.sweeps.ledger import Manifest, PlannedCell, Record
from tests.fuzz.targets import CHECKED, WITH_LZ4
from tests.support.every_report import OLD_HISTOGRAM, completed, failed, full_report
from tests.unit.common.wire.test_messages import EXAMPLES

CORPUS: Final = Path(__file__).parent / "corpus"
BULK, CONTROL, URGENT = 0, 1, 2  # as `targets.Stream` reads them


def frame_seeds() -> dict[str, bytes]:
    """Every frame type, alone and in a row, with checksums and without."""
    out = {}
    for checked, name in ((False, ""), (True, "-checked")):
        flag = CHECKED if checked else 0
        parts = _bulk_frames(checked)
        for kind, data in parts.items():
            out[kind + name] = _opened(BULK | flag) + data
        out[f"round{name}"] = _opened(BULK | flag) + b"".join(parts.values())
        request = encoder.encode_request(7, 3, checked=checked)
        out[f"request{name}"] = _opened(URGENT | flag) + 2 * request
        for codec in Codec:
            of = flag | (WITH_LZ4 if codec is Codec.LZ4 else 0)
            for kind, data in _packed_frames(codec, checked).items():
                out[f"{kind}-{codec.name.lower()}{name}"] = _opened(BULK | of) + data
    out["control"] = (
        _opened(CONTROL) + encoder.encode_control(messages.encode_message(messages.Bye())) * 2
    )
    return out


def _opened(kind: int) -> bytes:
    first = kind & (CHECKED | WITH_LZ4)
    return bytes([next(at for at in range(first, 256) if at % 3 == kind % CHECKED), 7])


def _bulk_frames(checked: bool) -> dict[str, bytes]:
    extents = from_pages(np.array([1, 2, 5], np.int64))
    table = np.array([(3, 5), (4, 1 << 63)], frames.LINES_OF)
    pages = encoder.encode_pages_head(extents, checked=checked)
    pages += bytes(range(256)) * (3 * PAGE_SIZE // 256)
    lines = encoder.encode_lines_head(table, checked=checked) + bytes(range(192))
    return {
        "pages": pages + (encoder.trailer(pages) if checked else b""),
        "zero": encoder.encode_zero(extents, checked=checked),
        "lines": lines + (encoder.trailer(lines) if checked else b""),
        "delta": _delta_frame(checked),
        "barrier": encoder.encode_barrier(1, checked=checked),
        "probe": encoder.encode_probe(0, 3, checked=checked),
        "answer": encoder.encode_answer(0, 3, checked=checked),
    }


def _delta_frame(checked: bool) -> bytes:
    """A page with two runs, one that is as it was, and one with a run that ends with it."""
    runs = (b"\0\1a\xc8\1\2bc", b"", b"\xff\x1f\1z")
    table = np.array([(at, len(run)) for at, run in enumerate(runs)], DELTA_OF)
    data = encode_delta_head(table, checked=checked) + b"".join(runs)
    return data + (encoder.trailer(data) if checked else b"")


def _packed_frames(codec: Codec, checked: bool) -> dict[str, bytes]:
    extents = from_pages(np.array([1, 2, 5], np.int64))
    table = np.array([(3, 5), (4, 1 << 63)], frames.LINES_OF)
    out = {}
    for kind, what, size in (
        (FrameType.PAGES, extents, 3 * PAGE_SIZE),
        (FrameType.LINES, table, 3 * 64),
    ):
        packed = packer(codec)(memoryview(bytes(range(16)) * (size // 16)))
        data = encode_packed_head(codec, kind, what, len(packed), checked=checked) + packed
        out[f"packed-{kind.name.lower()}"] = data + (encoder.trailer(data) if checked else b"")
    return out


def control_seeds() -> dict[str, bytes]:
    """Every message."""
    return {
        f"{number:02}-{message.kind}": messages.encode_message(message)
        for number, message in enumerate(EXAMPLES)
    }


def trace_seeds() -> dict[str, bytes]:
    """Every kind of line."""
    text = (
        b"==12== Lackey\n--12-- a remark\n\nI  0401ab70,3\n L 1fff000778,8\n S 1fff0007fe,16\n"
        b" M 04225e68,8\nSB 0401ab70\r\nI  0401ab73,5\n L 0401afff,2\n"
    )
    return {
        "data": b"\0\7" + text,
        "fetches": b"\1\7" + text,
        "cut-off": b"\0\7" + text + b" L 0401",
        "not-a-trace": b"\0\7" + text + b"total 12\n",
    }


def sweep_seeds() -> dict[str, bytes]:
    """Plans of every kind, and one that is wrong in the middle."""
    whole = """runner = "migrate"
output = "there"
repeats = 2
max-cells = 64
[options]
memory = "16MiB"
verify = false
low = 0.1
workload = {name = "zipf", skew = 1.2}
inject = ["connected:kill"]
[grid]
max-bandwidth = ["100MB/s", "unlimited"]
workload.rate = ["1MB/s", "max"]
[[list]]
strategy = ["pre-copy", "hybrid"]
cache = [0, "4MiB"]
"""
    net = """[options]
net = "rate=100mbit,loss=0.1%"
link = "namespaces"
shaper = "tun"
schedule = "at 3s rate=10mbit; at 5s outage=2s"
[grid]
net.delay = ["0ms", "5ms"]
net.rate-back = ["1mbit", "unlimited"]
[[list]]
net.jitter = ["0ms", "1us"]
net.queue = ["1ms", "50ms"]
"""
    simulated = """runner = "simulate"
[options]
guest-speed = 1e6
[[list]]
link = ["rate=1gbit,delay=5ms,mss=9000,window=4MiB", "relay"]
"""
    return {
        "whole": whole.encode(),
        "net": net.replace('["0ms", "1us"]', '["0ms", "0ms"]').encode(),
        "jitter": net.encode(),
        "simulated": simulated.encode(),
        "simulated-net": b'runner = "simulate"\n[grid]\nnet.delay = ["0ms", "5ms"]\n',
        "empty": b"",
        "grid": b'[grid]\nstrategy = ["pre-copy", "lazy-copy"]\nmax-rounds = [1, 2, 3]\n',
        "list": b"[[list]]\nlow = [0.1, '20%']\nhigh = [0.5, '60%']\n[[list]]\nseed = [1, 2]\n",
        "wrong": whole.replace("max-bandwidth", "max-bandwith").encode(),
    }


def report_seeds() -> dict[str, bytes]:
    """A report of each kind, and a series of them."""
    old = full_report()
    assert old.postcopy is not None
    old.postcopy.fault_counts, old.postcopy.fault_histogram = [], OLD_HISTOGRAM
    rows: list[dict[str, Any]] = [{"label": "a", "runs": [0, 1], "downtime_ms": 1.5}]
    series = SeriesDocument(runs=[completed(), failed()], table=rows, notes=["a note"])
    made: dict[str, Any] = {
        "completed": completed(),
        "failed": failed(),
        "full": full_report(),
        "old": old,
        "series": series,
    }
    return {name: document.to_json().encode() for name, document in made.items()} | {
        "pair": b'{"schema_version": 1, "outcome": "\\ud800"}',
        "deep": b'{"config": ' + b"[" * 900 + b"]" * 900 + b"}",
    }


def record_seeds() -> dict[str, bytes]:
    """A cell that has moved its guest, and one that has failed."""
    whole = Record(
        key="0123456789abcdef0123",
        label="pre-copy",
        runner="migrate",
        options={"memory": "4MiB", "workload": "uniform:rate=4MB/s", "inject": ["connected:kill"]},
        outcome="completed",
        exit_code=0,
        error=None,
        started="2026-01-01T00:00:00Z",
        seconds=1.5,
        worker="here",
        attempts=1,
        versions={"python": "3.11.7"},
        results=result_row(completed()),
        has_report=True,
    )
    bad = whole.model_copy(update={"outcome": "failed", "exit_code": 1, "results": {}})
    made = {"completed": whole, "failed": bad}
    return {name: each.model_dump_json(indent=1).encode() for name, each in made.items()}


def manifest_seeds() -> dict[str, bytes]:
    """The plan of a sweep as its folder has it."""
    point = {"strategy": "pre-copy", "workload.rate": "4MB/s"}
    cell = PlannedCell(key="0123456789abcdef0123", label="pre-copy", repeat=0, point=point)
    made = Manifest(name="m", runner="migrate", axes=tuple(point), cells=(cell,))
    return {"whole": made.model_dump_json(indent=1).encode()}


def fleet_seeds() -> dict[str, bytes]:
    """Guests of every kind."""
    whole = """[[guest]]
memory = "8GiB"
workload = "zipf:rate=40MB/s"
count = 12
downtime-limit = "100ms"
vcpus = 2
name = "database"
[[guest]]
memory = 1073741824
"""
    return {"whole": whole.encode(), "mark": b"\xef\xbb\xbf" + whole.encode(), "empty": b""}


def npz_seeds() -> dict[str, bytes]:
    """A trace of an odd number of accesses."""
    file = io.BytesIO()
    accesses = np.array([0, 3, 1 << 7, (1 << 7) | 5, 2 << 7], np.uint32)
    write_trace(file, [accesses], accesses=5, instructions=False, source="a.txt")
    return {"odd": file.getvalue()}


SEEDS: Final = {
    "frames": frame_seeds,
    "control": control_seeds,
    "trace": trace_seeds,
    "sweep": sweep_seeds,
    "report": report_seeds,
    "record": record_seeds,
    "manifest": manifest_seeds,
    "fleet": fleet_seeds,
    "npz": npz_seeds,
}


def main() -> None:
    for target, make in SEEDS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in make().items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
