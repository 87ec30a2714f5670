"""What `scripts/check_wheels` makes of pip's answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts.check_wheels import Answer, Target, ask, name_of, requirements, table

ARM = Target("3.12", "aarch64")


def test_all_that_users_install_is_asked_for() -> None:
    names = {name_of(each) for each in requirements()}
    assert {"numba", "uvloop", "cryptography", "dask", "pyroute2", "duckdb"} <= names
    assert not names & {"pytest", "mypy", "atheris", "pageferry"}


def test_a_target_in_pips_words() -> None:
    words = " ".join(ARM.options)
    assert "--platform manylinux_2_28_aarch64" in words
    assert "--platform manylinux2014_aarch64" in words
    assert "--python-version 3.12" in words
    assert "x86" not in words


def pip_that_lacks(monkeypatch: pytest.MonkeyPatch, *lacking: str) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        wanted = command[command.index("cp") + 1 :]
        if any(name_of(each) in lacking for each in wanted):
            said = "ERROR: No matching distribution found for it"
            return subprocess.CompletedProcess(command, 1, "", said)
        found = [{"metadata": {"name": name_of(each), "version": "1.0"}} for each in wanted]
        Path(command[command.index("--report") + 1]).write_text(json.dumps({"install": found}))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("subprocess.run", run)


def test_the_one_to_blame_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pip_that_lacks(monkeypatch, "b")
    wanted = ["a>=1", "b>=1", "c[x]>=2; sys_platform == 'linux'"]
    answer = ask(wanted, ARM)
    assert answer.missing == ["b>=1"]
    rows = list(table(wanted, {ARM: answer}))
    assert rows == [
        "| | 3.12 aarch64 |",
        "|---|---|",
        "| `a>=1` | 1.0 |",
        "| `b>=1` | **none** |",
        "| `c[x]>=2` | 1.0 |",
    ]


def test_none_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pip_that_lacks(monkeypatch)
    assert ask(["a", "b"], ARM) == Answer({"a": "1.0", "b": "1.0"})


def test_a_pip_that_could_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no network\n")

    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(RuntimeError, match="no network"):
        ask(["a"], ARM)
