"""The status pipe: lines are whole, and a reader who stops reading holds nobody up for long."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator

import pytest

from pageferry.common.errors import UsageError
from pageferry.common.process import status
from pageferry.common.process.status import StatusPipe, read_status

FILLED = 1 << 16  # bytes that a pipe takes


@pytest.fixture(name="ends")
def _ends() -> Iterator[tuple[int, int]]:
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    os.close(read_fd)
    os.close(write_fd)


def test_a_reader_who_stops_reading(ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is true for a moment nor the last word blocks; what he reads later are lines."""
    monkeypatch.setattr(status, "PATIENCE_S", 0.05)
    monkeypatch.setattr(status, "REPORT_S", 0.1)
    read_fd, write_fd = ends
    pipe = StatusPipe(write_fd)
    for number in range(3000):
        pipe.write("status", {"round": number, "phase": "x" * 50})
    pipe.write("report", {"text": "y" * 100_000})
    pipe.write("report", {})
    data = os.read(read_fd, 2 * FILLED)
    whole = data[: data.rfind(b"\n")].splitlines()
    assert [json.loads(line)["status"]["round"] for line in whole] == list(range(len(whole)))
    assert len(whole) > 500


def test_a_slow_reader_gets_a_long_line_whole(ends: tuple[int, int]) -> None:
    read_fd, write_fd = ends
    found: list[tuple[str, object]] = []

    def read() -> None:
        with os.fdopen(os.dup(read_fd)) as lines:
            found.extend(read_status([lines.readline()]))

    reader = threading.Thread(target=read)
    reader.start()
    StatusPipe(write_fd).write("report", "z" * 300_000)
    reader.join()
    assert found == [("report", "z" * 300_000)]


def test_a_reader_who_is_gone() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    StatusPipe(write_fd).write("report", {})
    os.close(write_fd)
    with pytest.raises(UsageError, match="not an open descriptor"):
        StatusPipe(write_fd)
