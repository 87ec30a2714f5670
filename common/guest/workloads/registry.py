"""Every workload by name, and the reader of `NAME[:key=value,...]`.

A workload may have a key that need not be named if it comes first: `trace:FILE`.
"""

from __future__ import annotations

from typing import Final

from common.errors import UsageError
from common.guest.workloads.base import Workload
from common.guest.workloads.game_server import GameServer
from common.guest.workloads.idle import Idle
from common.guest.workloads.io_intensive import IoIntensive
from common.guest.workloads.matrix_multiply import MatrixMultiply
from common.guest.workloads.memory_intensive import MemoryIntensive
from common.guest.workloads.sequential import Sequential
from common.guest.workloads.trace import Trace
from common.guest.workloads.uniform import Uniform
from common.guest.workloads.web_browsing import WebBrowsing
from common.guest.workloads.zipf import Zipf

WORKLOADS: Final[dict[str, type[Workload]]] = {
    cls.name: cls
    for cls in (
        Idle,
        WebBrowsing,
        MatrixMultiply,
        GameServer,
        IoIntensive,
        MemoryIntensive,
        Uniform,
        Zipf,
        Sequential,
        Trace,
    )
}


def parse_workload(text: str) -> Workload:
    """`uniform:rate=40MB/s,lines=4` to a workload. Raises `UsageError` in one line."""
    name, colon, rest = text.partition(":")
    cls = WORKLOADS.get(name)
    if cls is None:
        raise UsageError(f"unknown workload {name!r}: expected one of {', '.join(WORKLOADS)}")
    values = {key: spec.default for key, spec in cls.keys.items()}
    given: set[str] = set()
    for index, item in enumerate(rest.split(",") if colon else ()):
        if index == 0 and cls.first_key is not None and not item:
            continue  # it is missing, which its own check says best
        key, equals, value = item.partition("=")
        if index == 0 and cls.first_key is not None and item and key not in cls.keys:
            key, equals, value = cls.first_key, "=", item
        if not equals:
            raise UsageError(f"workload {name}: {item!r} is not key=value")
        if key not in cls.keys:
            raise UsageError(
                f"workload {name} has no option {key!r}: it has {', '.join(cls.keys) or 'none'}"
            )
        if key in given:
            raise UsageError(f"workload {name}: {key} is given twice")
        given.add(key)
        values[key] = value
    options = {}
    for key, value in values.items():
        try:
            options[key] = cls.keys[key].parse(value)
        except ValueError as error:
            raise UsageError(f"workload {name}, {key}: {error}") from None
    return cls(options)
