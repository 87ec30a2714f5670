"""`python -m scripts.trace_programs`: real programs under valgrind, and what they write in a time.

Each program runs under `valgrind --tool=lackey --trace-mem=yes`, on input that is made here from a
seed. Its log goes through a pipe into `pageferry trace import`, which ends after so many accesses,
or once its time is up; then the program is ended, and its folder removed. Of the trace the first
part is passed over (`Program.skip`), in which a program starts up. What it writes within windows
of the rest goes into programs.json, and the last part is kept as an extract.

What is counted, and what that can't say, is in `pageferry.trace.written`. Of the programs it can't
say how fast they write (a trace has no clock), nor what the kernel writes for them: what `read`
puts into a buffer is no access of the program's. And their working sets are those of the input
that they were given.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import UsageError
from pageferry.common.files.memory_trace import PAGE_SHIFT, open_trace, write_trace
from pageferry.paper.locality.programs import (
    ProgramPlace,
    ProgramsDocument,
    WrittenSet,
    shipped_programs,
)
from pageferry.paper.machine import describe_machine, today
from pageferry.trace.written import Written, written_within
from scripts.traced_programs import PROGRAMS, SOCKET, Program, missing, version

PROJECT = Path(__file__).resolve().parents[1]
DATA = PROJECT / "pageferry/paper/data/programs.json"
EXTRACTS = PROJECT / "docs/traces"
KEPT = 20_000_000  # accesses of a trace, behind those that are passed over
WINDOWS = (10_000, 100_000, 1_000_000, 10_000_000, KEPT)
EXTRACT = 15_000  # accesses
EXTRACT_WINDOWS = (1_000, EXTRACT)
LIMIT_S = 1800.0  # for a trace
PAGES_OF = np.uint32(PAGE_SHIFT)
_IN_PAGE = np.uint32((1 << PAGE_SHIFT) - 1)
_START_S, _END_S, _LOOK_S = 60.0, 10.0, 0.05


class CantTraceError(Exception):
    """A program can't be recorded; the message says why."""


def record(program: Program, trace: Path, accesses: int, limit_s: float = LIMIT_S) -> None:
    """Run a program in a folder of its own, and import its first accesses; it is ended then.

    Args:
        program: What runs.
        trace: The file to write.
        accesses: How many are imported; fewer where the program ends before.
        limit_s: Seconds after which it is given up.

    Raises:
        CantTraceError: Its log was not imported, or not in time.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pageferry-trace-")))
        read, write = os.pipe()
        # Without -q: by valgrind's own lines the import notices a second process.
        command = [
            *("valgrind", "--tool=lackey", "--trace-mem=yes", f"--log-fd={write}"),
            *program.command(folder),
        ]
        importing = [
            *(sys.executable, "-m", "pageferry.cli", "trace", "import", "-", str(trace)),
            *("--limit", str(accesses), "--quiet"),
        ]
        running = stack.enter_context(
            ended(command, cwd=folder, pass_fds=(write,), stdout=subprocess.DEVNULL, env=_env())
        )
        os.close(write)
        importer = stack.enter_context(
            ended(importing, cwd=PROJECT, stdin=read, stdout=subprocess.DEVNULL)
        )
        os.close(read)
        if program.client is not None:
            wait_for(folder / SOCKET, running)
            stack.enter_context(ended(program.client(folder), stdout=subprocess.DEVNULL))
        try:
            code = importer.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise CantTraceError(f"{program.name}: not traced within {limit_s:g} s") from None
        if code != 0:
            raise CantTraceError(f"{program.name}: its trace was not imported")


def _env() -> dict[str, str]:
    """Return the environment of a program: sort and others ask it how to compare text."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "PYTHONHASHSEED": "0"}


@contextmanager
def ended(command: Sequence[str], **more: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process, and end it in the end, however that comes."""
    process = subprocess.Popen(command, stderr=None, **more)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(socket: Path, server: subprocess.Popen[bytes]) -> None:
    """Wait until a server has made its socket."""
    until = time.monotonic() + _START_S
    while not socket.exists():
        if time.monotonic() > until or server.poll() is not None:
            raise CantTraceError(f"{server.args!r}: no server came up within {_START_S:.0f} s")
        time.sleep(_LOOK_S)


def sets_of(seen: Sequence[Written]) -> tuple[WrittenSet, ...]:
    """Convert what is written within windows to what is stored of it."""
    return tuple(
        WrittenSet(
            window=each.accesses,
            pages=round(each.pages, 1),
            lines=round(each.lines, 2),
            median_lines=round(each.median_lines, 1),
            pages_touched=round(each.pages_touched, 1),
        )
        for each in seen
    )


def place(program: Program, accesses: NDArray[np.uint32], kept: NDArray[np.uint32]) -> ProgramPlace:
    """Put together what is stored of a program.

    Args:
        program: What ran.
        accesses: Of its trace, those that are passed over left out.
        kept: Its extract.

    Returns:
        Its place.
    """
    seen = [written_within(accesses, length) for length in WINDOWS]
    whole = seen[-1]
    return ProgramPlace(
        name=program.name,
        kind="program",
        load=program.load,
        version=version(program),
        skipped=program.skip,
        writes=round(whole.writes, 4),
        writes_per_line=round(whole.writes_per_line, 2),
        sets=sets_of(seen),
        extract=sets_of([written_within(kept, length) for length in EXTRACT_WINDOWS]),
    )


def extract(accesses: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Take the last part of a trace, its pages numbered anew."""
    part = accesses[-EXTRACT:]
    pages = np.unique(part >> PAGES_OF, return_inverse=True)[1].astype(np.uint32)
    found: NDArray[np.uint32] = pages << PAGES_OF | part & _IN_PAGE
    return found


def traced(program: Program, folder: Path, skip: int, kept: int) -> NDArray[np.uint32]:
    """Record a program, unless that has been done, and pass over its start.

    Raises:
        CantTraceError: It can't be recorded, or ends too early.
    """
    file = folder / f"{program.name}.npz"
    if not file.exists():
        record(program, file, skip + kept)
    accesses = open_trace(str(file)).accesses
    if len(accesses) < skip + kept:
        short = f"{program.name}: it ends after {len(accesses):,} accesses"
        raise CantTraceError(f"{short}, expected {skip + kept:,}")
    return accesses[skip : skip + kept]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [program.name for program in PROGRAMS]
    parser.add_argument("--only", choices=names, nargs="+", default=names)
    parser.add_argument(
        "--into", type=Path, help="folder for programs.json and extracts [default: where they ship]"
    )
    parser.add_argument(
        "--traces", type=Path, help="folder that keeps whole traces; one that is there is taken"
    )
    asked = parser.parse_args(arguments)
    chosen = [program for program in PROGRAMS if program.name in asked.only]
    if lacking := list(dict.fromkeys(said for said in map(missing, chosen) if said)):
        print("\n".join(lacking), file=sys.stderr)
        return 2
    data, extracts = (asked.into / DATA.name, asked.into) if asked.into else (DATA, EXTRACTS)
    extracts.mkdir(parents=True, exist_ok=True)
    found: list[ProgramPlace] = []
    with tempfile.TemporaryDirectory(prefix="pageferry-traces-") as temporary:
        traces = asked.traces or Path(temporary)
        traces.mkdir(parents=True, exist_ok=True)
        for program in chosen:
            try:
                accesses = traced(program, traces, program.skip, KEPT)
            except (CantTraceError, UsageError) as error:
                print(error, file=sys.stderr)
                return 1
            kept = extract(accesses)
            found.append(place(program, accesses, kept))
            with open(extracts / f"{program.name}.npz", "wb") as file:
                write_trace(
                    file, [kept], accesses=len(kept), instructions=False, source=program.name
                )
            print(program.name, *(f"{s.pages:.0f}:{s.lines:.1f}" for s in found[-1].sets))
            if asked.traces is None:
                (traces / f"{program.name}.npz").unlink()
            write(found, data)
    return 0


def write(found: Sequence[ProgramPlace], file: Path) -> None:
    """Write the data: programs as traced now, the others and the guests as they were."""
    before = shipped_programs()
    kept = {each.name: each for each in before.places if each.kind == "program"}
    kept |= {each.name: each for each in found}
    document = ProgramsDocument(
        made=today(),
        machine=describe_machine(),
        valgrind=subprocess.check_output(["valgrind", "--version"], text=True).strip(),  # noqa: S607
        about=before.about,
        places=(
            *(kept[program.name] for program in PROGRAMS if program.name in kept),
            *(each for each in before.places if each.kind == "guest"),
        ),
    )
    file.write_text(json.dumps(document.model_dump(mode="json"), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended then, too
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
