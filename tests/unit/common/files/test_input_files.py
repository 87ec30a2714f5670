"""Files that a person hands us: bounded before they are looked at, refused in one line."""

from __future__ import annotations

import io
import os
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.errors import UsageError
from pageferry.common.files import input_files
from pageferry.common.files.input_files import parse_json, parse_toml, read_file, read_whole


def refused(data: bytes, parse: object = parse_json) -> str:
    assert callable(parse)
    with pytest.raises(UsageError) as caught:
        parse(data, "a file")
    said = str(caught.value)
    assert said.startswith("a file")
    assert "\n" not in said
    assert len(said) < 400
    return said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": [1, "\\ud800"]}', "a.1: '\\ud800' is no text: half of a surrogate pair"),
        (b'{"\\udfff": 1}', "'\\udfff' is no text"),
        (b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}", "nested too deep: expected at most 32"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": {"b": 18446744073709551616}}', "a.b: a number is too large"),
        (b'{"a": 1e99}', "a: a number is too large"),
        (b'{"a": 1e999}', "a: a number is too large"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b"[" + b"1," * (1 << 24) + b"1]", "too many parts"),
        (b'"\xed\xa0\x80"', "is not UTF-8: byte 1"),
        (b'{"a": "' + b"\xff" * 3, "is not UTF-8"),
        (b"9" * 5000, "is not JSON"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:20],
)
def test_json_that_none_of_ours_is(data: bytes, said: str) -> None:
    assert said in refused(data)


@pytest.mark.parametrize(
    "data",
    [
        b"a = " + b"[" * 900 + b"]" * 900,
        b"a = " + b"{b = " * 40 + b"1" + b"}" * 40,
        b"a" + b".a" * 500_000 + b" = 1",
        b'"a"' + b' . "a b"' * 100_000 + b" = 1",
        b"[" + b".".join([b"'a'"] * 100_000) + b"]",
    ],
    ids=["lists", "tables", "a key of parts", "quoted parts", "the name of a table"],
)
def test_toml_that_none_of_ours_is(data: bytes) -> None:
    """tomllib would take hours for the long keys: their parts are compared with one another."""
    refused(data, parse_toml)


def test_what_is_legal_is_read() -> None:
    assert parse_json(
        '\ufeff{"a": ["\U0001f600", -1.5e18, 9223372036854775807]}'.encode(), "x"
    ) == {"a": ["\U0001f600", -1.5e18, 2**63 - 1]}
    values = ", ".join(["0.1"] * 5000)
    assert len(parse_toml(f"a = [{values}, inf]".encode(), "x")["a"]) == 5001


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name, what in (
            ("pipe", "a pipe: expected a file"),
            ("socket", "a socket or a device"),
            ("/dev/zero", "a device: expected a file"),
            ("", "Is a directory"),
            ("nul\0", "no name of a file"),
            ("n" * 300, "File name too long"),
        ):
            with pytest.raises(UsageError, match=what):
                read_file(tmp_path / name, 100)


def test_what_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match="too large: expected at most 1 MiB"):
        read_file(tmp_path / "large", 1 << 20)


def test_standard_input_is_bounded_and_has_to_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text")))
    assert read_file("-", 4, stdin=True) == b"text"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text")))
    with pytest.raises(UsageError, match="standard input is too large"):
        read_file("-", 3, stdin=True)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="closed: expected a file"):
        read_file("-", 3, stdin=True)


class Asked:
    """A machine with so much memory, and what it has been asked for."""

    def __init__(self, free: int) -> None:
        self.free, self.sizes = free, list[int]()

    def check(self, _what: str, size: int) -> None:
        self.sizes.append(size)
        if size > self.free:
            raise UsageError("does not fit")


def test_small_texts_share_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Asked(1 << 40)
    monkeypatch.setattr(input_files, "check_memory", machine.check)
    memory = input_files._Memory()
    for _ in range(1000):
        memory.ask("it", 10_000)
    assert 0 < len(machine.sizes) <= 2


@given(st.lists(st.integers(0, 1 << 26)), st.integers(0, 1 << 27))
def test_no_more_is_taken_than_was_asked_for(sizes: list[int], free: int) -> None:
    machine, memory, taken = Asked(free), input_files._Memory(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(input_files, "check_memory", machine.check)
        for size in sizes:
            try:
                memory.ask("it", size)
            except UsageError:
                assert size > free
                return
            assert size <= free
            taken += size
    granted = sum(each for each in machine.sizes if each <= free)
    assert taken <= granted


def test_what_has_nothing_to_read_yet_is_refused() -> None:
    """Files of /proc may be such: they are regular, and would have to be waited for."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    with open(writing, "wb"), pytest.raises(OSError, match="would have to be waited for"):
        read_whole(reading, 1000)
