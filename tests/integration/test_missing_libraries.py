"""What is said where a library is missing can be typed as it stands, and works."""

from __future__ import annotations

import os
import re
import shlex
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support import forked
from tests.support.command_line import (
    CHECKOUT,
    PYTHON,
    Run,
    environment,
    pageferry,
    run_words,
)
from tests.support.tiers import FULL

PLAN = "[options]\nmemory = '4MiB'\n"


LACKING = {
    "cryptography": ["certs", "keys"],
    "pyarrow": ["sweep", "plan.toml"],
    "distributed": ["sweep", "plan.toml", "--scheduler", "tcp://127.0.0.1:1"],
    "duckdb": ["sweep", "show", "."],
    "plotly": ["migrate", "--memory", "4MiB", "--html", "a.html"],
    "jinja2": ["simulate", "--html", "a.html"],
    **({"pyroute2": ["net", "up", "--name", "none"]} if os.geteuid() == 0 else {}),
}


def lacking_runs(folder: Path) -> dict[str, Run]:
    """What is said by each, by the module that it does not find."""
    if not FULL:
        return dict(
            zip(LACKING, forked.run_each([*LACKING.values()], folder, [*LACKING]), strict=True)
        )
    ended = {}
    for module, words in LACKING.items():
        # A folder each: what Python translated of one within a second would be taken for the next.
        hiding = folder / f"without {module}"
        hiding.mkdir()
        (hiding / "sitecustomize.py").write_text(f"import sys\nsys.modules[{module!r}] = None\n")
        ended[module] = pageferry(*words, cwd=folder, PYTHONPATH=f"{hiding}:{CHECKOUT}")
    return ended


def test_the_advice_works(tmp_path: Path) -> None:
    """Here a library is only hidden, so that pip finds it in place, and needs no network.

    The words are typed by a shell, and read by pip, where they are unlike others: all with --full.
    """
    (tmp_path / "plan.toml").write_text(PLAN)
    advices: dict[str, Requirement] = {}
    for module, run in lacking_runs(tmp_path).items():
        assert run.exit_code == 2, (module, run.stderr)
        advice = run.complaint.rpartition(": ")[2]
        assert re.search(r"\bpip\b.* install ", advice), run.complaint
        assert "pageferry[" not in advice
        python, *pip, wanted = shlex.split(advice)
        assert (python, pip) == (PYTHON, ["-m", "pip", "install"])
        advices[advice] = Requirement(wanted)
        assert advices[advice].specifier.contains(version(advices[advice].name))
    plain, *others = advices
    typed = [plain, *(each for each in others if FULL or advices[each].extras)]
    assert len(typed) >= 2
    for advice in typed:
        done = run_words(
            ["/bin/sh", "-c", f"{advice} --no-index --dry-run"],
            env=environment(PATH=f"{Path(PYTHON).parent}:/usr/bin:/bin"),
            cwd=tmp_path,
            timeout=100,
        )
        assert done.exit_code == 0, done.stderr
        assert "already satisfied" in done.stdout


@pytest.mark.parametrize("words", [["net"], ["certs"], ["sweep"], ["sweep", "show"], ["migrate"]])
def test_no_help_names_a_distribution_that_there_is_not(words: list[str]) -> None:
    run = pageferry(*words, "--help")
    assert "pageferry[" not in run.stdout


def test_no_page_of_documentation_does() -> None:
    for page in (CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")):
        assert "install 'pageferry" not in page.read_text(), page
