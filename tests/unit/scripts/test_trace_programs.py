"""How real programs are recorded, with a stand-in for valgrind; and what is missing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from pageferry.common.files.memory_trace import open_trace
from scripts import trace_programs
from scripts.trace_programs import CantTraceError, extract, record, traced
from scripts.traced_programs import PROGRAMS, Program

ACCESSES = 500
WRITES = "printf ' S %08x,8\\n' $((n * 64 % 65536)) >&\"$fd\"; n=$((n + 1))"


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    return tmp_path / "pid"


@pytest.fixture
def valgrind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid_file: Path) -> Path:
    """It does what the program's command says with the descriptor of the log."""
    tools = tmp_path / "tools"
    tools.mkdir()
    file = tools / "valgrind"
    file.write_text(
        "#!/bin/bash\n"
        f"echo $$ >{pid_file}\n"
        "for each; do case $each in --log-fd=*) fd=${each#--log-fd=};; esac; done\n"
        'n=0; eval "${@: -1}"\n'
    )
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return file


def program(does: str) -> Program:
    return Program("made", "nothing", "none", ("true",), 100, lambda _: [does])


def gone(pid_file: Path) -> bool:
    try:
        os.kill(int(pid_file.read_text()), 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.usefixtures("valgrind")
def test_one_that_goes_on_for_ever_is_ended(tmp_path: Path, pid_file: Path) -> None:
    record(program(f"while :; do {WRITES}; done"), tmp_path / "out.npz", ACCESSES)
    assert open_trace(str(tmp_path / "out.npz")).meta.accesses == ACCESSES
    assert gone(pid_file)


@pytest.mark.usefixtures("valgrind")
def test_one_that_writes_nothing_is_given_up(tmp_path: Path, pid_file: Path) -> None:
    with pytest.raises(CantTraceError, match=r"made: not traced within 0\.2 s"):
        record(program("exec sleep 60"), tmp_path / "out.npz", ACCESSES, 0.2)
    assert gone(pid_file)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.usefixtures("valgrind")
def test_one_that_is_over_too_soon_is_said(tmp_path: Path) -> None:
    ends = program(f"while [ $n -lt {ACCESSES} ]; do {WRITES}; done")
    with pytest.raises(CantTraceError, match="ends after 500 accesses, expected 501"):
        traced(ends, tmp_path, 100, ACCESSES - 99)
    # It has been kept, and is taken as it is.
    assert len(traced(ends, tmp_path, 100, ACCESSES - 100)) == ACCESSES - 100


def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert trace_programs.main(["--only", "gzip", "redis", "--into", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "valgrind is not installed: apt-get install valgrind\n"
    (tmp_path / "valgrind").touch(mode=0o755)
    assert trace_programs.main(["--only", "gzip", "redis", "--into", str(tmp_path)]) == 2
    said = "gzip is not installed: apt-get install gzip\nredis-server is not installed: apt-get "
    assert capsys.readouterr().err == said + "install redis-server redis-tools\n"


def test_an_extract_has_no_gaps_between_its_pages() -> None:
    pages = np.array([9, 2, 9, 700], np.uint32) << np.uint32(7)
    found = extract(pages | np.uint32(0b1011))
    assert (found >> np.uint32(7)).tolist() == [1, 0, 1, 2]
    assert (found & np.uint32(127)).tolist() == [0b1011] * 4


def test_names_are_files() -> None:
    assert len({each.name for each in PROGRAMS}) == len(PROGRAMS) >= 6
    assert all(each.name.isalnum() for each in PROGRAMS)
