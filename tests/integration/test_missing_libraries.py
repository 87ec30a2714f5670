"""What is said where a library is missing can be typed as it stands, and works."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import CHECKOUT, PYTHON, environment, pageferry

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
PLAN = "[options]\nmemory = '4MiB'\n"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("cryptography", ["certs", "keys"]),
        ("pyarrow", ["sweep", "plan.toml"]),
        ("distributed", ["sweep", "plan.toml", "--scheduler", "tcp://127.0.0.1:1"]),
        ("duckdb", ["sweep", "show", "."]),
        ("plotly", ["migrate", "--memory", "4MiB", "--html", "a.html"]),
        ("jinja2", ["simulate", "--html", "a.html"]),
        pytest.param("pyroute2", ["net", "up", "--name", "none"], marks=[needs_root]),
    ],
)
def test_the_advice_works(tmp_path: Path, module: str, words: list[str]) -> None:
    """Here the library is only hidden, so that pip finds it in place, and needs no network."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{module!r}] = None\n")
    (tmp_path / "plan.toml").write_text(PLAN)
    path = f"{tmp_path}:{CHECKOUT}"
    run = pageferry(*words, cwd=tmp_path, PYTHONPATH=path)
    assert run.exit_code == 2, run.stderr
    advice = run.complaint.rpartition(": ")[2]
    assert re.search(r"\bpip\b.* install ", advice), run.complaint
    assert "pageferry[" not in advice
    done = subprocess.run(
        ["/bin/sh", "-c", f"{advice} --no-index --dry-run"],
        env=environment(PATH=f"{Path(PYTHON).parent}:/usr/bin:/bin"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "already satisfied" in done.stdout


@pytest.mark.parametrize("words", [["net"], ["certs"], ["sweep"], ["sweep", "show"], ["migrate"]])
def test_no_help_names_a_distribution_that_there_is_not(words: list[str]) -> None:
    run = pageferry(*words, "--help")
    assert "pageferry[" not in run.stdout


def test_no_page_of_documentation_does() -> None:
    for page in (CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")):
        assert "install 'pageferry" not in page.read_text(), page
