"""An environment in which a guest can't run: one line, true and with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import forked
from tests.support.command_line import CHECKOUT, SMALL, pageferry

LACKEY = "==1== Lackey\n S 1ffeffe7e,8\n"


NEED_A_GUEST = (
    ("migrate", *SMALL),
    ("dest", "--listen", "127.0.0.1:0"),
    ("source", "--to", "127.0.0.1:1"),
    ("host", "--listen", "127.0.0.1:0", "--boot", "--memory", "4MiB"),
    ("predict", "--memory", "4MiB"),
    ("trace", "import", "a.txt", "a.npz"),
)
NEED_NONE = (("--version",), ("model",), ("simulate", "--memory", "64MiB"))


def test_numba_that_may_not_compile(tmp_path: Path) -> None:
    """Whatever needs a guest says so, and the rest works without."""
    (tmp_path / "a.txt").write_text(LACKEY)
    commands = (*NEED_A_GUEST, *NEED_NONE)
    ended = forked.run_each(commands, tmp_path, NUMBA_DISABLE_JIT="1")
    for words, run in zip(commands, ended, strict=True):
        if words in NEED_NONE:
            assert (run.exit_code, run.stderr) == (0, ""), words
        else:
            assert run.exit_code == 2, (words, run.stderr)
            assert "NUMBA_DISABLE_JIT" in run.complaint, words
            assert "unset" in run.complaint, words
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize("system", ["darwin", "win32", "freebsd14", "cygwin"])
@pytest.mark.parametrize("words", [("--version",), ("migrate", *SMALL)], ids=["version", "migrate"])
def test_another_system_is_refused_in_one_line(
    tmp_path: Path, system: str, words: tuple[str, ...]
) -> None:
    """Said before anything is loaded that such a system would not have."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.platform = {system!r}\n")
    run = pageferry(*words, PYTHONPATH=f"{tmp_path}:{CHECKOUT}")
    assert run.exit_code == 2, run.stderr
    assert run.lines == [run.complaint]
    assert "Linux" in run.complaint
    assert system in run.complaint
    assert run.stdout == ""
