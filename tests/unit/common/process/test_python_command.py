"""How our processes are started: never with the current folder to import from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from pageferry.common.process.python_command import ROOT, python_command


def test_a_module_by_its_name() -> None:
    command = python_command("pageferry.net.link_keeper", "a")
    assert command == [sys.executable, "-P", "-m", "pageferry.net.link_keeper", "a"]


def test_a_checkout_that_is_found_by_nothing_but_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes are told where it is; a namesake in it of what Python has is not preferred."""
    monkeypatch.chdir(ROOT)
    elsewhere = [entry for entry in sys.path if os.path.realpath(entry or ".") != ROOT]
    monkeypatch.setattr(sys, "path", [ROOT, *elsewhere])
    monkeypatch.setattr(sys, "meta_path", [PathFinder])  # none of an editable installation
    command = python_command("there.module", "--flag", "a b")
    assert command[:3] == [sys.executable, "-P", "-c"]
    package = tmp_path / "there"
    package.mkdir()
    (package / "module.py").write_text(
        "import random, sys\nprint(__name__, random.random() < 1, sys.argv[1:])\n"
    )
    (tmp_path / "random.py").write_text("raise ImportError\n")
    command[command.index(ROOT)] = str(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "__main__ True ['--flag', 'a b']\n"


def test_such_a_checkout_as_a_whole(tmp_path: Path) -> None:
    """`python -m pageferry.cli` in a copy that nothing else knows starts agents of that copy."""
    for name in ("common", "pageferry", "source_agent", "dest_agent"):
        shutil.copytree(Path(ROOT, name), tmp_path / name, symlinks=True)
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p != sys.argv[1]]; sys.path[0] = '.';"
        "import os; sys.path[0] = os.getcwd();"
        "from pageferry.common.process.python_command import python_command as c;"
        "print(c('pageferry.cli')[1:3])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ROOT], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "['-P', '-c']\n"
