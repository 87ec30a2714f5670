"""Large things in a page: compressed, as base64, unpacked by the page when they are looked at.

Events are stored as columns. Those of one kind (same agent, name and fields) are a *shape*. A
shape's numbers are whole numbers of one width, byte by byte (all lowest bytes first), which deflate
packs well: 10^6 events are about 8 MB. Times are rounded to 1 µs. A fractional field is stored in
thousandths where 0.001 is fine enough for all of it, and otherwise with seven digits.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.html.series import finite
from pageferry.common.report.schema import EventReport

_LEVEL: Final = 6
_EXACT: Final = 2**53  # whole numbers below it are exact in a script
PackedColumn = dict[str, Any]


def packed(value: bytes) -> str:
    """Pack bytes as gzip and base64. The same bytes always give the same text.

    Args:
        value: Anything.

    Returns:
        ASCII text.
    """
    return base64.b64encode(gzip.compress(value, _LEVEL, mtime=0)).decode()


def packed_json(value: object) -> str:
    """Pack a value as JSON; what is no finite number becomes null.

    Args:
        value: What JSON can hold.

    Returns:
        ASCII text, see `packed`.
    """
    text = json.dumps(finite(value), separators=(",", ":"), allow_nan=False)
    return packed(text.encode())


def pack_events(events: Sequence[EventReport]) -> str:
    """Pack both agents' events, as columns.

    A JSON head with its length before it (4 bytes, little-endian), then the bytes of the columns,
    to which the head points.

    Args:
        events: In the order of the page.

    Returns:
        ASCII text, see `packed`.
    """
    body = bytearray()
    shapes: dict[tuple[str, ...], int] = {}
    rows: list[list[Mapping[str, Any]]] = []
    kinds = np.empty(len(events), np.int64)
    for place, event in enumerate(events):
        fields = event.model_extra or {}
        shape = (event.agent, event.event, *fields)
        kind = shapes.setdefault(shape, len(shapes))
        if kind == len(rows):
            rows.append([])
        rows[kind].append(fields)
        kinds[place] = kind
    times = np.fromiter((event.t_ms for event in events), np.float64, len(events))
    within = np.nan_to_num(times).clip(-_EXACT / 1e3, _EXACT / 1e3)
    micros = (within * 1e3).round()
    since = micros.astype(np.int64)
    steps = since - np.concatenate(([0], since))[:-1]
    head = {
        "count": len(events),
        "time": _whole(steps, body),
        "kind": _whole(kinds, body),
        "shapes": [
            {
                "agent": agent,
                "event": name,
                "fields": {key: _column([each[key] for each in found], body) for key in keys},
            }
            for (agent, name, *keys), found in zip(shapes, rows, strict=True)
        ],
    }
    text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    return packed(len(text).to_bytes(4, "little") + text + bytes(body))


def _column(values: list[Any], body: bytearray) -> PackedColumn:
    """Append a column: numbers as such, anything else as JSON, each different value once."""
    kinds = {type(value) for value in values}
    if kinds == {int} and all(-_EXACT < value < _EXACT for value in values):
        return _whole(np.array(values, np.int64), body)
    if kinds <= {int, float} and float in kinds and all(abs(value) < 1e300 for value in values):
        return _fractions(np.array(values, np.float64), body)
    known: dict[str, int] = {}
    places = [known.setdefault(json.dumps(finite(value)), len(known)) for value in values]
    column = _whole(np.array(places, np.int64), body)
    return column | {"words": [json.loads(text) for text in known]}


def _fractions(values: NDArray[np.float64], body: bytearray) -> PackedColumn:
    """Append a column of fractional numbers to the body."""
    thousandths = np.round(values * 1e3)
    if np.abs(thousandths).max() < _EXACT and np.allclose(thousandths / 1e3, values, 1e-6, 0):
        return _whole(thousandths.astype(np.int64), body) | {"scale": 1000}
    with np.errstate(over="ignore"):
        single = values.astype("<f4")
    at = len(body)
    body += np.ascontiguousarray(single.view(np.uint8).reshape(-1, 4).T).tobytes()
    return {"at": at, "width": 4, "float": True}


def _whole(values: NDArray[np.int64], body: bytearray) -> PackedColumn:
    """Append whole numbers, less the least of them, in as few bytes as the greatest needs."""
    if not len(values):
        return {"at": len(body), "width": 0, "least": 0}
    least = int(values.min())
    above = (values - least).astype("<u8")
    width = max(-(-int(above.max()).bit_length() // 8), 0)
    at = len(body)
    planes = above.view(np.uint8).reshape(-1, 8)[:, :width].T
    body += np.ascontiguousarray(planes).tobytes()
    return {"at": at, "width": width, "least": least}
