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

OUTSIDE_S: Final = 100.0
# Of an editable installation: see pyproject.toml.
_EDITABLE: Final = "ignore:Module already imported so cannot be rewritten; _editable_impl"


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
) -> Popen:
    """Begin a session with one file of tests, which has no configuration but its own.

    prefix: what stands before the command, such as what gives privileges up.
    """
    (folder / "test_it.py").write_text(textwrap.dedent(text))
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -ra\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    options = ["-W", "error", "-W", _EDITABLE, "-p", "no:cacheprovider", "-p", "no:asyncio"]
    return subprocess.Popen(
        [*prefix, python, "-P", "-m", "pytest", *options, *arguments],
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
) -> Session:
    """A session from its beginning to its end."""
    return end(start(folder, text, *arguments, python=python, prefix=prefix))


def end(session: Popen) -> Session:
    """Wait for it."""
    try:
        said, _ = session.communicate(timeout=OUTSIDE_S)
    except BaseException:
        session.kill()
        raise
    return Session(session.returncode, said)


Popen = subprocess.Popen[str]
