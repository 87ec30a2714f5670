"""What the page's own script does with packed things, in Python."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any

import numpy as np


def unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


def packed_in(page: str, place: str) -> str:
    """What the element of that id holds."""
    found = re.search(rf'<script type="text/plain" id="{place}">([A-Za-z0-9+/=]*)</script>', page)
    assert found is not None, place
    return found[1]


def figures_of(page: str, place: str = "run0") -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(unpacked(packed_in(page, f"{place}-figures")))
    return figures


def events_of(text: str) -> list[tuple[float, str, str, dict[str, Any]]]:
    """(t_ms, agent, event, fields), in order."""
    whole = unpacked(text)
    length = int.from_bytes(whole[:4], "little")
    head, body = json.loads(whole[4 : 4 + length]), whole[4 + length :]
    times = np.cumsum(_numbers(head["time"], head["count"], body)) / 1000
    kinds = _numbers(head["kind"], head["count"], body).astype(int)
    counts = np.bincount(kinds, minlength=len(head["shapes"]))
    columns = [
        {name: _values(column, counts[k], body) for name, column in shape["fields"].items()}
        for k, shape in enumerate(head["shapes"])
    ]
    out, seen = [], [0] * len(counts)
    for t_ms, kind in zip(times, kinds, strict=True):
        shape = head["shapes"][kind]
        fields = {name: values[seen[kind]] for name, values in columns[kind].items()}
        seen[kind] += 1
        out.append((float(t_ms), shape["agent"], shape["event"], fields))
    return out


def _numbers(column: dict[str, Any], count: int, body: bytes) -> Any:
    width = column["width"]
    raw = np.frombuffer(body, np.uint8, int(count) * width, column["at"]).reshape(width, int(count))
    if column.get("float"):
        return np.ascontiguousarray(raw.T).view("<f4").ravel().astype(float)
    units = 256.0 ** np.arange(width)
    values = (raw.T * units).sum(axis=1) if width else np.zeros(int(count))
    return (values + column["least"]) / column.get("scale", 1)


def _values(column: dict[str, Any], count: int, body: bytes) -> list[Any]:
    values = _numbers(column, count, body).tolist()
    return [column["words"][int(v)] for v in values] if "words" in column else values
