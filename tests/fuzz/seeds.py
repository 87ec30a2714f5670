"""`python -m tests.fuzz.seeds`: the first inputs of each corpus, one of each legal kind."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from common.units import PAGE_SIZE
from common.wire import frames, messages
from common.wire.extents import from_pages
from tests.unit.wire.test_messages import EXAMPLES

CORPUS: Final = Path(__file__).parent / "corpus"
WITH_MEMORY, WITHOUT, WITH_REQUESTS = b"\0\7", b"\1\7", b"\2\7"  # as `targets.frames` reads them


def frame_seeds() -> dict[str, bytes]:
    """Every frame type, alone and in a row."""
    extents = from_pages(np.array([1, 2, 5], np.int64))
    table = np.array([(3, 5), (4, 1 << 63)], frames.LINES_OF)
    parts = {
        "pages": frames.encode_pages_head(extents) + bytes(range(256)) * (3 * PAGE_SIZE // 256),
        "zero": frames.encode_zero(extents),
        "lines": frames.encode_lines_head(table) + bytes(range(192)),
        "barrier": frames.encode_barrier(1),
    }
    out = {name: WITH_MEMORY + data for name, data in parts.items()}
    out["round"] = WITH_MEMORY + b"".join(parts.values())
    out["control"] = WITHOUT + frames.encode_control(messages.encode(messages.Bye())) * 2
    out["request"] = WITH_REQUESTS + frames.encode_request(7, 3) + frames.encode_request(8)
    return out


def control_seeds() -> dict[str, bytes]:
    """Every message."""
    return {
        f"{number:02}-{message.kind}": messages.encode(message)
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


SEEDS: Final = {"frames": frame_seeds, "control": control_seeds, "trace": trace_seeds}


def main() -> None:
    for target, make in SEEDS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in make().items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
