"""What is fuzzed: functions that take any bytes, and raise where a promise is broken.

A refusal that the code documents (`RemoteProtocolError`, `LackeyError`, `UsageError`) is as good as
an answer; anything else that is raised is a finding. They know nothing of a fuzzer: atheris drives
them (`python -m tests.fuzz`), and so do the tests, with what was found before.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from pageferry.commands.report import Gathered, print_results
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import LocalProtocolError, RemoteProtocolError, UsageError
from pageferry.common.files.memory_trace import PAGE_SHIFT, MemoryTrace, open_trace
from pageferry.common.guest.delta import apply_deltas
from pageferry.common.html import all_pictures
from pageferry.common.html.run_tables import configuration
from pageferry.common.html.sentences import verdict
from pageferry.common.report.schema import Report
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import messages
from pageferry.common.wire.decoder import FrameDecoder
from pageferry.common.wire.extents import Extents
from pageferry.common.wire.frames import MAX_FRAME_PAGES, DeltaFrame, Frame, LinesFrame
from pageferry.common.wire.header import HEADER
from pageferry.common.wire.packing import Codec
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.runs.results import parse_result
from pageferry.sim.fleet import parse_fleet
from pageferry.sweeps.cells import make_cells
from pageferry.sweeps.columns import column_of
from pageferry.sweeps.ledger import Manifest, PlannedCell, parse_manifest, parse_record
from pageferry.sweeps.parquet import make_results
from pageferry.sweeps.plan import parse_plan
from pageferry.sweeps.runners import runner_named
from pageferry.trace.lackey import LackeyError, LackeyParser

CHECKED: Final = 64
WITH_LZ4: Final = 128
N_PAGES: Final = 16
MOST_CELLS: Final = 1000  # that a fuzzer waits for
MOST_WORDS: Final = 600  # characters of a complaint
MOST_BYTES: Final = MAX_FRAME_PAGES * PAGE_SIZE + 2**16  # that a decoder may ask for at once


class Memory:
    """A guest's memory; the decoder may ask for its pages, and for no others.

    Around it is more, which nobody may touch.
    """

    def __init__(self) -> None:
        self._all = bytearray((N_PAGES + 2) * PAGE_SIZE)
        self.view = memoryview(self._all)[PAGE_SIZE:-PAGE_SIZE]

    @property
    def data(self) -> bytes:
        """What it holds."""
        assert not any(self._all[:PAGE_SIZE])
        assert not any(self._all[-PAGE_SIZE:])
        return bytes(self.view)

    def delta(self, frame: DeltaFrame) -> None:
        """As the destination's placer does it."""
        before = self.data
        pages, lengths = (frame.table[name].astype(np.int64) for name in ("page", "length"))
        if apply_deltas(np.frombuffer(self.view, np.uint8), pages, lengths, frame.data) >= 0:
            assert self.data == before
            raise RemoteProtocolError("a delta that is not legal")

    def buffers(self, extents: Extents) -> list[memoryview]:
        """One an extent."""
        view = self.view
        out = [view[f * PAGE_SIZE : (f + c) * PAGE_SIZE] for f, c in extents.tolist()]
        assert [len(buffer) for buffer in out] == [c * PAGE_SIZE for _, c in extents.tolist()]
        return out


class Stream:
    """A decoder that is fed a stream in pieces of at most `piece` bytes.

    kind: modulo 3 which connection (bulk, control, urgent at the source); `CHECKED`: with sums;
    `WITH_LZ4`: that codec and not zstd.
    """

    def __init__(self, kind: int, piece: int) -> None:
        self.memory = Memory()
        placer = self.memory if kind % 3 == 0 else None
        asked, checked = kind % 3 == 2, bool(kind & CHECKED)
        codec = Codec.LZ4 if kind & WITH_LZ4 else Codec.ZSTD
        self._decoder = FrameDecoder(
            placer,
            stream=StreamFormat(checksum=checked, codec=codec, deltas=True),
            n_pages=N_PAGES,
            requests=asked,
            attempt=0,
        )
        self._piece = piece
        self.frames: list[str] = []
        self.refused: str | None = None
        self.deltas = 0  # that were looked at

    def feed(self, data: bytes) -> None:
        """All of it, or until it is refused."""
        rest = memoryview(data)
        try:
            while rest:
                n = self._fill(rest[: self._piece])
                rest = rest[n:]
                for frame in self._decoder.received(n):
                    if isinstance(frame, DeltaFrame):
                        self._apply(frame)
                    self.frames.append(_words(frame))
        except RemoteProtocolError as error:
            self.refused = str(error)
            self._check_closed()

    def _apply(self, frame: DeltaFrame) -> None:
        """One that is not legal would end the session, of which the decoder knows nothing."""
        self.deltas += 1
        with contextlib.suppress(RemoteProtocolError):
            self.memory.delta(frame)

    def _fill(self, piece: memoryview) -> int:
        buffers = self._decoder.buffers()
        assert buffers
        assert all(len(buffer) for buffer in buffers)
        assert sum(len(buffer) for buffer in buffers) <= MOST_BYTES
        done = 0
        for buffer in buffers:
            n = min(len(buffer), len(piece) - done)
            buffer[:n] = piece[done : done + n]
            done += n
        return done

    def _check_closed(self) -> None:
        """Nothing that comes behind an illegal frame is looked at."""
        try:
            self._decoder.buffers()
        except RemoteProtocolError:
            return
        raise AssertionError("a decoder went on after an illegal frame")


def _words(frame: Frame) -> str:
    """A frame as it can be compared; line data are only valid until the next bytes."""
    text = repr(frame)
    if isinstance(frame, LinesFrame | DeltaFrame):
        text += frame.data.tobytes().hex()
    return text


def frames(data: bytes) -> None:
    """The frame decoder: first byte: which connection; second: how the rest is cut."""
    if len(data) < 2:
        return
    whole = Stream(data[0], len(data))
    whole.feed(data[2:])
    cut = Stream(data[0], 1 + data[1] % (2 * HEADER.size))
    cut.feed(data[2:])
    assert cut.refused == whole.refused
    # Frames that came in one piece with an illegal one are not looked at, unlike those before it.
    assert cut.frames[: len(whole.frames)] == whole.frames
    assert whole.refused or len(cut.frames) == len(whole.frames)
    if cut.deltas == whole.deltas:
        assert cut.memory.data == whole.memory.data


def control(data: bytes) -> None:
    """Control messages: what is taken for one says the same when it is sent on."""
    try:
        message = messages.decode_message(data)
    except RemoteProtocolError:
        return
    try:
        again = messages.encode_message(message)
    except LocalProtocolError:
        return
    assert repr(messages.decode_message(again)) == repr(message)


def trace(data: bytes) -> None:
    """A memory trace's text; first byte: with fetches or not; second: how the rest is cut."""
    if len(data) < 2:
        return
    text, instructions = data[2:], bool(data[0] & 1)
    whole = _accesses([text], instructions)
    size = 1 + data[1]
    cut = _accesses([text[at : at + size] for at in range(0, len(text), size)], instructions)
    assert cut == whole


def _accesses(blocks: list[bytes], instructions: bool) -> tuple[bytes, bytes, str | None]:
    """Accesses, the order of pages, and why it was refused."""
    parser = LackeyParser(instructions=instructions, most_pages=1000)
    out = b""
    try:
        for block in blocks:
            out += b"".join(part.tobytes() for part in parser.feed(block))
        out += b"".join(part.tobytes() for part in parser.finish())
    except LackeyError as error:
        return b"", b"", str(error)
    numbering = parser.numbering()
    assert sorted(numbering.tolist()) == list(range(parser.pages))
    return out, numbering.tobytes(), None


def sweep(data: bytes) -> None:
    """A plan of a sweep: cells, each of another identity, or one line that says what is wrong."""
    keys: list[str] = []
    refused = ""
    try:
        plan = parse_plan(data, "plan.toml")
        if plan.max_cells > MOST_CELLS:
            return  # as promised, but a fuzzer has no time for it
        keys = [cell.key for cell in make_cells(plan, runner_named(plan.runner), "plan.toml")]
    except UsageError as error:
        refused = str(error)
    assert bool(keys) != bool(refused)
    assert len(set(keys)) == len(keys)
    assert "\n" not in refused
    assert len(refused) < MOST_WORDS


def report(data: bytes) -> None:
    """What `report` is given: its tables and its pictures, or one line."""
    refused, found = _refusal(lambda: parse_result(data, "r.json"))
    if refused:
        return
    label = "r"
    runs = [found] if isinstance(found, Report) else found.runs
    shown = Gathered(runs, [label] * len(runs), [label] * len(runs))
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")) as out:
        print_results(shown)
        out.flush()
    all_pictures(shown.reports, shown.labels, shown.cases)
    for run in runs:
        configuration(run)
        verdict(run)


def record(data: bytes) -> None:
    """A cell's record in the folder of a sweep: a row of results, or one line."""
    runner = runner_named("migrate")
    refused, found = _refusal(lambda: parse_record(data, "r.json", runner))
    if refused:
        return
    cell = PlannedCell(key=found.key, label=found.label, repeat=0, point={})
    manifest = Manifest(name="m", runner="migrate", axes=("strategy",), cells=(cell,))
    assert make_results(manifest, {found.key: found}, runner).table.num_rows == 1


def manifest(data: bytes) -> None:
    """The plan in a sweep's folder: columns for its axes and names for its files, or one line."""
    refused, found = _refusal(lambda: parse_manifest(data, "sweep.json"))
    if refused:
        return
    runner = runner_named(found.runner)
    assert len({column_of(axis, runner.options).name for axis in found.axes}) == len(found.axes)
    assert all("/" not in cell.key and "\0" not in cell.key for cell in found.cells)


def fleet(data: bytes) -> None:
    """Guests of a host, or one line."""
    refused, found = _refusal(lambda: parse_fleet(data, "fleet.toml", MigrationConfig()))
    assert refused or found


def npz(data: bytes) -> None:
    """A trace's file: accesses that a kernel can rely on, or one line."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        refused, found = _refusal(lambda: _trace(file.name))
        if refused:
            return
        assert len(found.accesses) == found.meta.accesses
        assert int(found.accesses.max()) >> PAGE_SHIFT < found.meta.pages


def _trace(name: str) -> MemoryTrace:
    found = open_trace(name)
    found.verify()
    return found


def _refusal(read: Callable[[], Any]) -> tuple[str, Any]:
    """Why it was refused, and what has been read: one of them."""
    try:
        return "", read()
    except UsageError as error:
        said = str(error)
    assert said
    assert "\n" not in said
    assert len(said) < MOST_WORDS
    said.encode()
    return said, None


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "frames": frames,
    "control": control,
    "trace": trace,
    "sweep": sweep,
    "report": report,
    "record": record,
    "manifest": manifest,
    "fleet": fleet,
    "npz": npz,
}
