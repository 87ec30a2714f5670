"""Real programs that `scripts.trace_programs` records: what they are given, and how they are run.

What they work on is made here, from a seed: the same each time.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

SEED = 7
_WORDS = 4000
_ROUNDS, _INSERTED = 1000, 100  # transactions of sqlite, and rows that each inserts
_TREES = 8  # of tar: one is over soon
# The server's socket is waited for, so that it must not be a port that somebody else has.
SOCKET = "socket"


@dataclass(frozen=True)
class Program:
    """A program to record.

    Attributes:
        name: For people.
        load: What it does, in a few words.
        package: Of Debian, that has it.
        needs: What must be on PATH; the first of them tells its version.
        skip: Accesses that are passed over, so that it has started up, and has built what it goes
            on to change.
        command: Makes what it works on in a folder, and returns the command.
        client: Given the folder, the command of a client that keeps it busy; None: it needs none.
    """

    name: str
    load: str
    package: str
    needs: tuple[str, ...]
    skip: int
    command: Callable[[Path], list[str]]
    client: Callable[[Path], list[str]] | None = None


def _text(lines: int) -> str:
    """Return text that compresses about as prose does."""
    rng = random.Random(SEED)  # noqa: S311 - it is to be made again
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(_WORDS)]
    common = list(accumulate(1 / (rank + 1) for rank in range(_WORDS)))
    parts = (rng.choices(words, cum_weights=common, k=12) for _ in range(lines))
    return "".join(" ".join(part) + "\n" for part in parts)


def _gzip(folder: Path) -> list[str]:
    (folder / "text").write_text(_text(100_000))
    return ["gzip", "-6", "-c", str(folder / "text")]


def _xz(folder: Path) -> list[str]:
    (folder / "text").write_text(_text(100_000))
    return ["xz", "-6", "--threads=1", "-c", str(folder / "text")]


def _tar(folder: Path) -> list[str]:
    rng, text = random.Random(SEED), _text(2000).encode()  # noqa: S311
    for number in range(3000):
        file = folder / "tree" / f"{number % 50:02}" / f"{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        begin = rng.randrange(len(text) // 2)
        file.write_bytes(text[begin : begin + rng.randint(100, 40_000)])
    # Not to standard output: where that is /dev/null, tar reads no file.
    return ["tar", "-C", str(folder), "-cf", str(folder / "archive.tar"), *["tree"] * _TREES]


def _sort(folder: Path) -> list[str]:
    lines = _text(200_000).splitlines(keepends=True)
    random.Random(SEED).shuffle(lines)  # noqa: S311
    (folder / "lines").write_text("".join(lines))
    return ["sort", "--parallel=1", "-S", "64M", str(folder / "lines")]


def _sqlite(folder: Path) -> list[str]:
    rng, rows = random.Random(SEED), 0  # noqa: S311
    statements = [
        "PRAGMA journal_mode=WAL;",
        "PRAGMA synchronous=OFF;",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, body TEXT);",
        "CREATE INDEX t_k ON t (k);",
    ]
    for _ in range(_ROUNDS):
        statements += [
            f"WITH RECURSIVE n(i) AS (SELECT {rows + 1} UNION ALL SELECT i + 1 FROM n",  # noqa: S608
            f"  WHERE i < {rows + _INSERTED})",
            "INSERT INTO t SELECT i, (i * 7919) % 100003, printf('%0100d', i) FROM n;",
        ]
        rows += _INSERTED
        changed, gone = (
            ", ".join(str(rng.randint(1, rows)) for _ in range(count)) for count in (100, 20)
        )
        statements += [
            f"UPDATE t SET k = k + 1, body = printf('%0100d', k) WHERE id IN ({changed});",  # noqa: S608
            f"DELETE FROM t WHERE id IN ({gone});",  # noqa: S608
        ]
    (folder / "load.sql").write_text("\n".join(statements))
    return ["sqlite3", str(folder / "db"), f".read {folder / 'load.sql'}"]


def _compiler(folder: Path) -> list[str]:
    rng, parts = random.Random(SEED), ["typedef unsigned long size_t;\n"]  # noqa: S311
    for number in range(400):
        parts.append(f"long f{number}(long *a, const long *b, size_t n) {{\n")
        for _ in range(rng.randint(2, 6)):
            first, step = rng.randint(0, 9), rng.randint(1, 4)
            value = f"a[i] * {rng.randint(2, 99)} + b[i % {rng.randint(2, 17)}]"
            parts.append(f"  for (size_t i = {first}; i < n; i += {step}) a[i] = {value};\n")
        parts.append("  return a[0];\n}\n")
    (folder / "made.i").write_text("".join(parts))
    found = subprocess.run(
        ["gcc", "-print-prog-name=cc1"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    compiler = found.stdout.strip()
    return [compiler, "-fpreprocessed", "-quiet", "-O2", str(folder / "made.i"), "-o", "/dev/null"]


def _python(folder: Path) -> list[str]:
    # A generator of its own, of the standard library's none: importing one is most of a start-up.
    (folder / "keys.py").write_text(
        "keys = [n * 7919 % 1000003 for n in range(60_000)]\n"
        "known = dict.fromkeys(keys, 0.0)\n"
        f"at = {SEED}\n"
        "while True:\n"
        "    at = (at * 1103515245 + 12345) & 0x7FFFFFFF\n"
        "    known[keys[at % 60_000]] = at * 0.5\n"
    )
    return [sys.executable, "-I", "-S", str(folder / "keys.py")]


def _redis(folder: Path) -> list[str]:
    return [
        *("redis-server", "--port", "0", "--unixsocket", str(folder / SOCKET)),
        *("--save", "", "--appendonly", "no", "--dir", str(folder)),
    ]


def _redis_client(folder: Path) -> list[str]:
    return [
        *("redis-benchmark", "-s", str(folder / SOCKET), "-t", "set", "-n", "100000000"),
        *("-r", "20000", "-d", "100", "-c", "4", "-P", "8", "-q"),
    ]


_M = 1_000_000

PROGRAMS = (
    Program(
        name="gzip",
        load="gzip -6 of 8 MB of text",
        package="gzip",
        needs=("gzip",),
        skip=10 * _M,
        command=_gzip,
    ),
    Program(
        name="xz",
        load="xz -6 of 8 MB of text, one thread",
        package="xz-utils",
        needs=("xz",),
        skip=10 * _M,
        command=_xz,
    ),
    Program(
        name="tar",
        load=f"tar of 3,000 files of 20 kB, {_TREES} times",
        package="tar",
        needs=("tar",),
        skip=8 * _M,
        command=_tar,
    ),
    Program(
        name="sort",
        load="sort of 200,000 lines, in memory",
        package="coreutils",
        needs=("sort",),
        skip=20 * _M,
        command=_sort,
    ),
    Program(
        name="sqlite",
        load="transactions of inserts, updates of random rows and deletes (WAL)",
        package="sqlite3",
        needs=("sqlite3",),
        skip=20 * _M,
        command=_sqlite,
    ),
    Program(
        name="gcc",
        load="cc1 -O2 of 400 functions",
        package="gcc",
        needs=("gcc",),
        skip=40 * _M,
        command=_compiler,
    ),
    Program(
        name="python",
        load="a dict of 60,000 keys being overwritten at random",
        package="python3",
        needs=(sys.executable,),
        skip=52 * _M,
        command=_python,
    ),
    Program(
        name="redis",
        load="SET of 20,000 random keys, values of 100 bytes, from an empty server on",
        package="redis-server redis-tools",
        needs=("redis-server", "redis-benchmark"),
        skip=20 * _M,
        command=_redis,
        client=_redis_client,
    ),
)


def missing(program: Program) -> str | None:
    """Say what has to be installed; None where nothing has."""
    for tool in ("valgrind", *program.needs):
        if shutil.which(tool) is None:
            package = "valgrind" if tool == "valgrind" else program.package
            return f"{tool} is not installed: apt-get install {package}"
    return None


def version(program: Program) -> str:
    """Return the first line that the program prints of its version."""
    asked = [program.needs[0], "--version"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True)
    return (found.stdout or found.stderr).splitlines()[0].strip()
