"""The workloads that pageferry brings along, as data: the docs page is generated from it."""

from __future__ import annotations

import re
from typing import Final

from pageferry.common.units import LINES_PER_PAGE
from pageferry.common.workload.options import (
    EXTENT,
    FLAG,
    LINES,
    LINES_OR_MIX,
    PERIOD,
    RATE,
    SHARE,
    Option,
    Reader,
    content,
    number,
    whole,
)
from pageferry.common.workload.spec import Spec

_KERNELS: Final = "pageferry.common.guest.workloads"
_VISITED_LINE: Final = "one line of the visited page, written (or read: write-share)"
_WRITTEN_LINE: Final = "one line, written"


def _working_set(default: str) -> Option:
    return Option(
        default, EXTENT, "the part of memory that it touches; a size is of all vCPUs together"
    )


def _rate(default: str) -> Option:
    return Option(
        default,
        RATE,
        "page visits a second, as bytes: 40MB/s is 40e6 / 4096 visits, of all vCPUs together",
    )


def _visits(working_set: str, rate: str, lines: int) -> dict[str, Option]:
    """Return the options of the workloads that visit one page after another."""
    return {
        "working-set": _working_set(working_set),
        "rate": _rate(rate),
        "lines": Option(
            str(lines),
            LINES_OR_MIX,
            "64-byte lines written in a visit; mix:NAME: as many as pages of a real guest were"
            " measured to change",
        ),
        "scatter": Option("false", FLAG, "false: the same lines of a page each time; true: others"),
        "write-share": Option("100%", SHARE, "share of the accesses that write; the rest read"),
        **content(),
    }


def _lines(default: int, meaning: str) -> Option:
    return Option(str(default), LINES, meaning)


def _file(text: str) -> str:
    """Check the name of a file, which may have to cross the wire."""
    if not text:
        raise ValueError("no file is named: expected trace:FILE, as in trace:ls.npz")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} is not UTF-8: rename the file") from None
    return text


def _digest(text: str) -> str:
    """Check a digest as `pageferry trace info` shows it, or `any`."""
    if not re.fullmatch("any|[0-9a-f]{32}", text):
        raise ValueError(f"{text!r} is not a digest: expected 32 hexadecimal digits, or any")
    return text


BUILTIN: Final = (
    Spec(
        "idle",
        models="a guest that only keeps time",
        about="A timer tick at 1000 Hz counts one word up (jiffies), on one page of each vCPU.",
        step="a tick",
        made_by=f"{_KERNELS}.idle:Idle",
        options=content(),
    ),
    Spec(
        "web-browsing",
        models="clicks that redraw a page, cookies, a small animation",
        about=(
            "A click rewrites the window (working-set) at once and leaves a cookie, one line"
            " somewhere else. Until the next click, think later, the animated part of the window"
            " (animation) is redrawn 25 times a second; animation=0 has none."
        ),
        step=_WRITTEN_LINE,
        made_by=f"{_KERNELS}.web_browsing:WebBrowsing",
        options={
            "working-set": Option("3%", EXTENT, "the window"),
            "animation": Option("0.1%", EXTENT, "the part of the window that moves"),
            "think": Option("2s", PERIOD, "time from one click to the next"),
            **content(),
        },
    ),
    Spec(
        "matrix-multiply",
        models="C = A · B as rank-1 updates; the product can be checked",
        about=(
            "Multiplies two matrices that fill two thirds of memory, the product being the last"
            " third: float64, row by row, C += (column k of A) x (row k of B) for k = 0, 1, ...,"
            " the first of which overwrites C, and then again from the start. All of C changes with"
            " every update."
        ),
        step="one update of a 64-byte line of C: one element of A and one line of B are read",
        made_by=f"{_KERNELS}.matrix_multiply:MatrixMultiply",
    ),
    Spec(
        "game-server",
        models="a world of which every tick changes everything",
        about=(
            "Entities (players, monsters, projectiles) of one line each live in every page of the"
            " world, spread as an allocator spreads objects. A tick goes through all of them: each"
            " reads the state of its neighbour and changes its own. A host that cannot keep up with"
            " the ticks does them as fast as it can."
        ),
        step="one entity's update",
        made_by=f"{_KERNELS}.game_server:GameServer",
        options={
            "working-set": Option("60%", EXTENT, "the world"),
            "lines": _lines(1, "entities of a page, a 64-byte line each"),
            "ticks": Option("20", whole(1, 1000, "ticks a second"), "ticks a second"),
            **content(),
        },
    ),
    Spec(
        "io-intensive",
        models="files written through a page cache",
        about=(
            "The page cache is its working set. An extent of 32 pages at a random place is written"
            " page by page, and then one line of metadata (inode, journal), which live in the first"
            " 1/64 of the working set."
        ),
        step=_WRITTEN_LINE,
        made_by=f"{_KERNELS}.io_intensive:IoIntensive",
        options={
            "working-set": _working_set("25%"),
            "rate": _rate("40MB/s"),
            "lines": _lines(LINES_PER_PAGE, "64-byte lines of each page that are written"),
            **content(),
        },
    ),
    Spec(
        "memory-intensive",
        models="a program that keeps writing half of memory",
        about="Writes the same half of memory from end to end and again, flat out.",
        step="one line of the visited page, written",
        made_by=f"{_KERNELS}.memory_intensive:MemoryIntensive",
        options=_visits("50%", "max", LINES_PER_PAGE),
    ),
    Spec(
        "uniform",
        models="random pages, each as likely as any other",
        about="Visits random pages of its working set, evenly.",
        step=_VISITED_LINE,
        made_by=f"{_KERNELS}.uniform:Uniform",
        options=_visits("100%", "max", 1),
    ),
    Spec(
        "zipf",
        models="random pages, a few of them much more likely than the rest",
        about=(
            "Visits random pages: the one of rank k with a likelihood in proportion to 1 / k^skew."
            " Ranks are scattered over the working set by a seeded permutation."
        ),
        step=_VISITED_LINE,
        made_by=f"{_KERNELS}.zipf:Zipf",
        options={
            **_visits("100%", "max", 1),
            "skew": Option("0.99", number(0.0, 10.0), "Zipf exponent; 0 is uniform"),
        },
    ),
    Spec(
        "sequential",
        models="one page after the other",
        about="Goes through its working set page by page, and round again.",
        step=_VISITED_LINE,
        made_by=f"{_KERNELS}.sequential:Sequential",
        options=_visits("100%", "max", LINES_PER_PAGE),
    ),
    Spec(
        "trace",
        models="a real program, recorded by valgrind and imported by `pageferry trace import`",
        about=(
            "Replays the memory accesses of a real program, again and again. The first pages of"
            " each vCPU's part of memory are the trace's pages, one for one; if the part is smaller"
            " than the trace, page i of P becomes page floor(i * part / P), so that neighbours"
            " share pages. vCPU i of n begins i/n of the way into the trace."
        ),
        step=(
            "one access to one line, read or written as in the trace; it counts as a page visit for"
            " rate"
        ),
        made_by=f"{_KERNELS}.trace:Trace",
        options={
            "file": Option(
                "",
                Reader(_file, "FILE", "a name without a comma"),
                "what `pageferry trace import` has written; trace:FILE is short for"
                " trace:file=FILE",
            ),
            "digest": Option(
                "any",
                Reader(_digest, "DIGEST", "32 hexadecimal digits, or any"),
                "of the trace's content: a file with another is refused, at the destination too",
            ),
            "rate": _rate("max"),
            **content(),
        },
        first_key="file",
        complete=False,
        pin="pageferry.common.workload.traced:pin",
    ),
)
