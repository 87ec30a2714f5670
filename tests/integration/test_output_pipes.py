"""Pipes that a report is written to: a reader who goes or stands still costs no result."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import threading
from pathlib import Path

import pytest

from pageferry.common.files.output_pipe import open_stream, write_stream
from pageferry.common.process import signals
from pageferry.common.report.schema import Report
from tests.support.command_line import SMALL, Run
from tests.support.running import running

PAGE = 4096  # the least that a pipe holds, which is less than a report


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where there is a pipe, and all that is put aside."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "aside").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "aside"))
    return tmp_path / "pipe"


def reader_of(pipe: Path) -> int:
    fd = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PAGE)
    return fd


def put_aside(run: Run, why: str) -> str:
    """What is in the file that is named instead, the only one."""
    assert run.exit_code == 0, run
    pattern = rf"its report could not be written to .*pipe: {why}; it is in (\S+)$"
    found = re.search(pattern, run.complaint)
    assert found, run.stderr
    file = Path(found[1])
    assert [file] == list(file.parent.iterdir())
    return file.read_text()


def test_a_reader_who_stands_still_is_waited_for_until_a_signal(pipe: Path) -> None:
    fd = reader_of(pipe)
    with running("migrate", *SMALL, "--quiet", "--html", str(pipe)) as pair:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(60_000)
        pair.tell(signal.SIGTERM)
        ended = pair.end(5.0)
    os.close(fd)
    assert "</html>" in put_aside(ended, "cancelled before all of it was read")


def test_a_reader_who_goes_meanwhile_costs_no_report(pipe: Path) -> None:
    fd = reader_of(pipe)
    with running("migrate", *SMALL, "--quiet", "--json", str(pipe)) as pair:
        pair.wait_key("status")
        os.close(fd)
        ended = pair.end()
    report = Report.model_validate_json(put_aside(ended, "Broken pipe"))
    assert report.outcome == "completed"


def test_a_reader_may_come_a_little_later(pipe: Path) -> None:
    """One that has begun to open it is one, although nobody has written yet."""
    data = bytes(range(256)) * 1024
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    timer = threading.Timer(0.1, reader.start)
    timer.start()
    fd = open_stream(str(pipe))
    try:
        write_stream(fd, data)
    finally:
        os.close(fd)
        timer.join()
        reader.join()
    assert read == [data]


def test_a_signal_that_came_before_takes_nothing_from_who_reads(pipe: Path) -> None:
    """As one that came too late for the migration, while its table was printed."""
    data = bytes(range(256)) * 1024
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    fd = open_stream(str(pipe))
    try:
        with signals.noted():
            os.kill(os.getpid(), signal.SIGTERM)
            write_stream(fd, data)
    finally:
        os.close(fd)
        reader.join()
    assert read == [data]
