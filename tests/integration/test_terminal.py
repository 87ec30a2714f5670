"""Terminals that say nothing true of themselves: the result is printed all the same."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios

import pytest

from tests.support.command_line import RUN_S, SMALL, command, environment, pageferry

SIMULATE = ("simulate", "--memory", "16MiB", "--link", "rate=10gbit")
WHOLE = "│downtime"


@pytest.mark.parametrize(
    "said",
    [
        {"COLUMNS": "0"},
        {"COLUMNS": "abc"},
        {"COLUMNS": "-5"},
        {"COLUMNS": "1"},
        {"COLUMNS": "9" * 40},
        {"COLUMNS": "0", "LINES": "0"},
        {"LINES": "0", "TERM": ""},
        {"TERM": "dumb"},
    ],
    ids=str,
)
def test_the_result_is_printed(said: dict[str, str]) -> None:
    run = pageferry(*SIMULATE, timeout=RUN_S, cwd=None, **said)
    assert run.exit_code == 0, run.stderr
    assert WHOLE in run.stdout
    assert "ms" in run.stdout


@pytest.mark.parametrize("columns", ["0", "1", "5"])
@pytest.mark.parametrize("what", [("model",), ("simulate", "--help"), ("--help",)])
def test_tables_and_help_are_printed(what: tuple[str, ...], columns: str) -> None:
    run = pageferry(*what, COLUMNS=columns)
    assert run.exit_code == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert max(map(len, run.stdout.splitlines())) >= 30


@pytest.mark.parametrize("columns", [0, 1])
def test_a_terminal_without_columns(columns: int) -> None:
    assert "downtime" in on_a_terminal(*SIMULATE, stream="stdout", columns=columns)


def test_lines_of_json_stay_so_on_a_terminal() -> None:
    options = ("--strategies", "pre-copy", "--runs", "2", "--progress", "json", "--json", "-")
    printed = on_a_terminal("compare", *SMALL, *options, stream="stderr", columns=80)
    assert printed.count("\n") >= 2
    for line in printed.splitlines():
        json.loads(line)


def on_a_terminal(*arguments: str, stream: str, columns: int) -> str:
    """What a command that ends well prints there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 0, columns, 0, 0))
    with subprocess.Popen(
        command(*arguments),
        env=environment(TERM="xterm"),
        stdout=slave if stream == "stdout" else subprocess.DEVNULL,
        stderr=slave if stream == "stderr" else subprocess.DEVNULL,
    ) as running:
        os.close(slave)
        printed = b""
        while chunk := _read(master):
            printed += chunk
        assert running.wait(RUN_S) == 0
    os.close(master)
    return printed.decode()


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # the other end has been closed
        return b""
