"""A test session of somebody else: files in a folder of its own, run by pytest as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support import entering, spare

OUTSIDE_S: Final = 100.0
# Of an editable installation: see pyproject.toml.
_EDITABLE: Final = "ignore:Module already imported so cannot be rewritten; _editable_impl"
# It loads one file of ours; and nothing, where the session has no spare process.
CONFTEST: Final = f"""
import importlib.util, os, socket, subprocess
number = os.environ.pop({spare.LEFT!r}, None)
if number is not None:
    found = importlib.util.spec_from_file_location("spare", {spare.__file__!r})
    spare = importlib.util.module_from_spec(found)
    found.loader.exec_module(spare)
    left = socket.socket(fileno=int(number))
    left.set_inheritable(False)
    ready = spare.Spare(left)
    subprocess._fork_exec = spare.Starter(lambda: ready, in_session=True)
"""


@dataclass(frozen=True)
class Session:
    """One that has ended."""

    exit_code: int
    said: str


def start(
    folder: Path,
    text: str,
    *arguments: str,
    python: str | Path = sys.executable,
    prefix: Sequence[str] = (),
    at_once: bool = False,
) -> Popen:
    """Begin a session with one file of tests, which has no configuration but its own.

    prefix: what stands before the command, such as what gives privileges up.
    at_once: its processes of pageferry are forked from a spare one, as those of our own tests.
    """
    (folder / "test_it.py").write_text(textwrap.dedent(text))
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -ra\n")
    (folder / "conftest.py").write_text(CONFTEST)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    options = ["-W", "error", "-W", _EDITABLE, "-p", "no:cacheprovider", "-p", "no:asyncio"]
    words = [str(python), "-P", "-m", "pytest", *options, *arguments]
    if at_once:
        words = entering.command([("session",)], words)
    return subprocess.Popen(
        [*prefix, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(
    folder: Path,
    text: str,
    *arguments: str,
    python: str | Path = sys.executable,
    prefix: Sequence[str] = (),
    at_once: bool = False,
) -> Session:
    """A session from its beginning to its end."""
    return end(start(folder, text, *arguments, python=python, prefix=prefix, at_once=at_once))


def end(session: Popen) -> Session:
    """Wait for it."""
    try:
        said, _ = session.communicate(timeout=OUTSIDE_S)
    except BaseException:
        session.kill()
        raise
    return Session(session.returncode, said)


Popen = subprocess.Popen[str]
