"""Inputs that are a little wrong, without end: of each seed, and of what formats are made of."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

ODD: Final[list[Any]] = [
    *(None, True, -1, 0, 1e18, 2**63 - 1, 2**70, 1e-320, "", "x", "\ud800", "\0", "../x"),
    *([], {}, [[]], [1], {"a": 1}, "9" * 400, "[bold]", "nan", "1MiB", [None], ["1"] * 40),
]
WORDS: Final = (
    *(b"\0", b"\xff\xfe", b"\xed\xa0\x80", b'"', b"'", b"\\", b"\n", b"#", b"=", b",", b"."),
    *(b"[", b"]", b"{", b"}", b"[[", b"]]", b"nan", b"-inf", b"1e999", b"0x10", b"-1", b"true"),
    *(b"9" * 40, b"[" * 900, b"a." * 40, b"'''", b'"""', b"1979-05-27", b"\xe2\x80\xae"),
)
_LONGEST: Final = 32  # bytes that are left out or made up at a time


def damaged(wholes: list[bytes], seed: int) -> Iterator[bytes]:
    """One after another, always the same of the same seed."""
    rng = random.Random(seed)  # noqa: S311 - to be had again
    ways: list[Callable[[bytes], bytes]] = [
        lambda data: _filled(rng, data, b""),
        lambda data: _filled(rng, data, rng.randbytes(rng.randint(1, _LONGEST))),
        lambda data: _filled(rng, data, rng.choice(WORDS)),
        lambda data: _filled(rng, data, _piece(rng, rng.choice(wholes))),
        lambda data: _lines(rng, data),
        lambda data: _values(rng, data),
    ]
    while True:
        data = rng.choice(wholes)
        for _ in range(rng.randint(1, 4)):
            data = rng.choice(ways)(data)
        yield data


def _filled(rng: random.Random, data: bytes, filling: bytes) -> bytes:
    """A hole somewhere, and this in it."""
    at = rng.randint(0, len(data))
    return data[:at] + filling + data[at + rng.randint(0, _LONGEST) :]


def _piece(rng: random.Random, data: bytes) -> bytes:
    at = rng.randint(0, len(data))
    return data[at : at + rng.randint(1, 4 * _LONGEST)]


def _lines(rng: random.Random, data: bytes) -> bytes:
    """One of them is missing, or comes twice, or somewhere else."""
    lines = data.split(b"\n")
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.randint(0, 2)):
        lines.insert(rng.randint(0, len(lines)), line)
    return b"\n".join(lines)


def _values(rng: random.Random, data: bytes) -> bytes:
    """JSON with a value where another belongs; what is no JSON stays as it is."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    ways = list(places(document))
    if ways:
        replace_at(document, rng.choice(ways), rng.choice(ODD))
    return json.dumps(document).encode()


def replace_at(document: Any, way: tuple[Any, ...], value: Any) -> None:
    """Put a copy of a value there."""
    *steps, last = way
    for step in steps:
        document = document[step]
    document[last] = copy.deepcopy(value)


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value within: of long lists the first three."""
    inside: Any = ()
    if isinstance(value, dict):
        inside = value
    elif isinstance(value, list):
        inside = range(min(len(value), 3))
    for step in inside:
        yield (*way, step)
        if len(way) < 8:
            yield from places(value[step], (*way, step))
