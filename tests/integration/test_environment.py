"""An environment in which a guest can't run: one line, true and with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import CHECKOUT, SMALL, pageferry

LACKEY = "==1== Lackey\n S 1ffeffe7e,8\n"


@pytest.mark.parametrize(
    "words",
    [
        ("migrate", *SMALL),
        ("dest", "--listen", "127.0.0.1:0"),
        ("source", "--to", "127.0.0.1:1"),
        ("host", "--listen", "127.0.0.1:0", "--boot", "--memory", "4MiB"),
        ("predict", "--memory", "4MiB"),
        ("trace", "import", "a.txt", "a.npz"),
    ],
    ids=lambda words: words[0],
)
def test_numba_that_may_not_compile(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "a.txt").write_text(LACKEY)
    run = pageferry(*words, timeout=60, cwd=tmp_path, NUMBA_DISABLE_JIT="1")
    assert run.exit_code == 2, run.stderr
    assert "NUMBA_DISABLE_JIT" in run.complaint
    assert "unset" in run.complaint
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize("words", [("--version",), ("model",), ("simulate", "--memory", "64MiB")])
def test_what_needs_no_guest_works_without(words: tuple[str, ...]) -> None:
    run = pageferry(*words, NUMBA_DISABLE_JIT="1")
    assert (run.exit_code, run.stderr) == (0, "")


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
