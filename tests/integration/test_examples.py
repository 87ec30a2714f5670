"""Each example does what it says, run as a user would: in a process of its own, from elsewhere."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from tests.support import outside
from tests.support.command_line import run_words
from tests.support.spare import with_us_loaded

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
RUN_S: Final = 110.0
NOTEBOOK_S: Final = 170.0
NOTEBOOK: Final = "compare_strategies.ipynb"
# In a real kernel where there is one: it runs an event loop, in which a cell's code is called.
KERNEL: Final = all(find_spec(name) for name in ("nbformat", "nbclient", "ipykernel"))
IN_A_KERNEL: Final = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=160).execute()
for cell in notebook.cells:
    for output in cell.get("outputs", ()):
        print(output.get("text") or "".join(output.get("data", {}).values()))
"""
WITHOUT: Final = """
import ast, json, sys
namespace = {"__name__": "__main__"}
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "a cell", "exec"), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "a cell", "eval"), namespace)
            print(value, getattr(value, "_repr_html_", str)())
"""


def run(folder: Path, *arguments: str | Path, limit_s: float = RUN_S) -> tuple[int, str, str]:
    """Its exit code, and what it printed: standard output, standard error."""
    # ipykernel's own shutdown fails in asyncio's debug mode, which conftest.py turns on.
    installed = {k: v for k, v in os.environ.items() if k != "PYTHONASYNCIODEBUG"}
    words = [sys.executable, *map(str, arguments)]
    with with_us_loaded():
        done = run_words(words, timeout=limit_s, cwd=folder, env=installed)
    assert "Traceback" not in done.stderr, done.stderr
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("faults", "code", "words"),
    [
        ([], 0, "verified    True"),
        (["source/after-round-1:cut"], 1, "the guest goes on at the source (exit code 1)"),
        (["nonsense"], 2, "that can't be asked for: --inject: 'nonsense'"),
    ],
    ids=["as it is", "the connections are cut", "bad usage"],
)
def test_the_example_of_a_migration_ends_with_the_runs_exit_code(
    tmp_path: Path, faults: list[str], code: int, words: str
) -> None:
    found, out, err = run(tmp_path, EXAMPLES / "migrate.py", *faults)
    assert found == code, err
    assert words in (err if code else out)
    assert ("round 1" in err) is (code != 2)


def test_a_strategy_of_ones_own_is_played_beside_ours(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, EXAMPLES / "own_strategy.py")
    assert code == 0, err
    assert re.search(r"StopAndCopy: .* more than half of the [\d,]+ before", out)
    times = dict(re.findall(r"^(\S+) .* down, +([\d.]+) s in all$", out, re.MULTILINE))
    assert set(times) == {"halving", "pre-copy", "hybrid", "three-path"}
    assert float(times["halving"]) < float(times["pre-copy"])


def test_a_workload_of_ones_own_is_handed_over_and_verified(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, EXAMPLES / "own_workload.py")
    assert code == 0, err
    here, there = out.splitlines()
    assert re.fullmatch(r"here:  [\d,]+ steps, [1-9]\d* pages dirty", here)
    assert re.fullmatch(r"there: [\d,]+ steps, verified", there)


def test_a_hostile_peer_is_answered_and_logged(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, EXAMPLES / "hostile_peer.py")
    assert code == 0, err
    assert re.findall(r"  exit code (.*)", out) == ["2", "1", "1"]
    assert out.count("  answered: ") == out.count("  logged: ") == 3
    for words in ("--max-memory 64MiB", "wrong checksum", "page 1000001 of a guest of 256"):
        assert out.count(words) == 2, out


def test_the_examples_tests_pass_without_configuration_of_ours(tmp_path: Path) -> None:
    """The example's own file, in a session that has no configuration of ours."""
    text = (EXAMPLES / "pytest_limit" / "test_limits.py").read_text("utf-8")
    session = outside.run(tmp_path, text, at_once=True)
    assert "3 passed" in session.said, session.said


def test_a_limit_that_is_missed_fails_it(tmp_path: Path) -> None:
    """Bytes can't be fewer than the guest has: so the example's limit is one that can be missed."""
    text = (EXAMPLES / "pytest_limit" / "test_limits.py").read_text("utf-8")
    tight = text.replace("bytes_on_wire=20_000_000", "bytes_on_wire=10_000_000")
    assert tight != text
    session = outside.run(tmp_path, tight, "-k", "each_page", at_once=True)
    missed = r"pageferry: bytes_on_wire was [\d,]+, its limit is 10,000,000 "
    assert re.search(missed, session.said), session.said
    assert session.exit_code == 1


@pytest.mark.timeout(180)
def test_the_notebook_shows_what_it_promises(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = "a kernel of IPython" if KERNEL else "no kernel: nbclient or ipykernel is not installed"
    with capsys.disabled():
        print(f" [{NOTEBOOK}: {how}]", end="")
    script = IN_A_KERNEL if KERNEL else WITHOUT
    code, out, err = run(tmp_path, "-c", script, EXAMPLES / NOTEBOOK, limit_s=NOTEBOOK_S)
    assert code == 0, err
    assert "<Report: pre-copy" in out
    assert out.count("<svg") >= 2  # of all reports, and of one
    assert "after round 0: NextRound(full)" in out
    assert out.count(" ms down, ") >= 3


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads((EXAMPLES / NOTEBOOK).read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_every_example_has_a_test_and_a_line_in_their_readme() -> None:
    found = {
        path.name
        for path in EXAMPLES.iterdir()
        if path.name != "README.md" and not path.name.startswith((".", "__pycache__"))
    }
    tests = Path(__file__).read_text("utf-8")
    assert [name for name in found if f'"{name}"' not in tests] == []
    readme = (EXAMPLES / "README.md").read_text("utf-8")
    assert set(re.findall(r"^\| \[`([^`/]+)/?`\]", readme, re.MULTILINE)) == found


def test_examples_are_small() -> None:
    """Somebody has to read the whole of one before it is of use."""
    lines = {path.name: path.read_text("utf-8").count("\n") for path in EXAMPLES.rglob("*.py")}
    assert {name: n for name, n in lines.items() if n > 110} == {}
