"""The commands, as far as nothing is migrated: what they refuse, list and show."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from pageferry.cli import make_app
from pageferry.common.command_line.run import run_app
from pageferry.pair import PairResult
from pageferry.runs.series import Signals
from pageferry.sweeps.cells import axes_of
from pageferry.sweeps.driver import run_here
from pageferry.sweeps.grid import exit_code
from pageferry.sweeps.ledger import Folder, Manifest, planned
from pageferry.sweeps.runners import Ran, Runner
from tests.support.sweep_tables import MIGRATE, PLAN, Kept, cells, moved, plan, run

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("sweep") / "plan.toml"
    found.write_text(PLAN)
    return found


@pytest.fixture(scope="module")
def half(file: Path) -> Path:
    """The folder of a sweep of which four cells have finished, one of them badly."""
    made = cells(PLAN)
    by_config = {cell.config: cell for cell in made}

    def run_one(config: object, *_: object) -> Ran:
        cell = by_config[config]  # type: ignore[index]
        if cell.index == 1:
            return Ran(PairResult(None, 1, "it broke"))
        return Ran(PairResult(moved(cell), 0, None))

    with Folder(file.parent / "plan") as folder:
        folder.describe(
            Manifest(
                name="plan",
                runner="migrate",
                axes=tuple(axes_of(plan(PLAN))),
                cells=planned(made),
            )
        )
        run_here(
            made[:4],
            runner=Runner("migrate", MIGRATE.options, run_one),
            store=folder,
            watcher=Kept(),
            signals=Signals(),
            log_dir=None,
        )
        return folder.path


def pageferry(*arguments: str) -> int:
    return run_app(make_app(), ["sweep", *arguments])


def complaint(captured: Captured) -> str:
    out, err = captured.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("pageferry: ")
    return line


BAD = {
    "no plan": ((), "PLAN is missing"),
    "not there": (("nowhere.toml",), "nowhere.toml can't be read: No such file"),
    "option": (("PLAN", "--bogus"), "--bogus"),
    "filter": (
        ("PLAN", "--filter", "strategy=teleport"),
        "strategy: 'teleport' is unknown",
    ),
    "filter that takes nothing": (("PLAN", "--filter", "strategy=hybrid"), "none of 8 cells"),
    "output": (("PLAN", "--output", "/proc/nowhere"), "/proc/nowhere: No such file"),
    "address": (("PLAN", "--scheduler", "there"), "expected an address as tcp://HOST:8786"),
    "logs elsewhere": (("PLAN", "--scheduler", "tcp://h:1", "--log-dir", "x"), "--log-dir"),
    "show nothing": (("show",), "RESULTS is missing"),
    "show what is not there": (("show", "/nowhere"), "/nowhere can't be read: No such file"),
    "show another folder": (("show", "/proc"), "/proc is no folder of a sweep: sweep.json: No suc"),
    "show a plan": (("show", "PLAN"), "is no Parquet file"),
    "sql": (("show", "HALF", "--sql", "SELECT"), "--sql: Parser Error"),
    "sql as a page": (("show", "HALF", "--sql", "SELECT 1", "--html", "x"), "not with --html"),
    "x": (("show", "HALF", "--x", "cache"), "--x: 'cache' is no axis of the sweep"),
    "best by": (("show", "HALF", "--best-by", "strategy"), "--best-by: 'strategy' is no figure"),
    "two in one": (("show", "HALF", "--csv", "/nowhere/x", "--html", "/nowhere/x"), "two files"),
    "nowhere": (("show", "HALF", "--csv", "/nowhere/x"), "--csv: can't write /nowhere/x"),
    "page on standard output": (("show", "HALF", "--html", "-"), "--html"),
    "show what is filtered away": (
        ("show", "HALF", "--filter", "cache=0"),
        "no cell of 4 is like cache=0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_usage_is_one_line(case: str, file: Path, half: Path, capsys: Captured) -> None:
    arguments, words = BAD[case]
    places = {"PLAN": str(file), "HALF": str(half)}
    assert pageferry(*(places.get(each, each) for each in arguments)) == 2
    assert words in complaint(capsys)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("pyarrow", ("PLAN",)),
        ("distributed", ("PLAN", "--scheduler", "tcp://h:1")),
        ("duckdb", ("show", "HALF")),
    ],
)
def test_what_is_not_installed_is_said(
    module: str,
    arguments: tuple[str, ...],
    file: Path,
    half: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = util.find_spec
    monkeypatch.setattr(
        "pageferry.common.command_line.libraries.find_spec",
        lambda name: None if name == module else real(name),
    )
    places = {"PLAN": str(file), "HALF": str(half)}
    assert pageferry(*(places.get(each, each) for each in arguments)) == 2
    assert re.search(f"needs {module}: .*pip install '[a-z]+.*>=[0-9.]+'$", complaint(capsys))


def test_no_other_command_waits_for_it() -> None:
    code = "import sys; from pageferry.cli import make_app; make_app();"
    code += "print([name for name in ('pyarrow', 'duckdb', 'dask') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_dry_run_lists_and_runs_nothing(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(PLAN)
    assert pageferry(str(file), "--dry-run", "--filter", "strategy=pre-copy") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("to be run") == 4 + 1
    assert "4 of 8 cells are to be run: at least" in out
    assert [path.name for path in file.parent.iterdir()] == ["plan.toml"]


def test_a_dry_run_of_one_that_was_begun(file: Path, half: Path, capsys: Captured) -> None:
    assert half.name == "plan"
    assert pageferry(str(file), "--dry-run", "--retry-failed") == 0
    out = capsys.readouterr().out
    states = [
        line.strip().rpartition("  ")[2].strip() for line in out.splitlines() if "strategy=" in line
    ]
    assert states == ["finished", "failed, to be run again", *["finished"] * 2, *["to be run"] * 4]
    assert "5 of 8 cells are to be run: about" in out


@pytest.mark.parametrize(
    ("codes", "code"),
    [((0, 0), 0), ((0, 1), 1), ((0, 2), 1), ((2, 2), 2), ((0, 3, 1), 3), ((4, 1), 4), ((130,), 1)],
)
def test_the_exit_code_is_the_worst(codes: tuple[int, ...], code: int) -> None:
    _, kept = run(PLAN)
    records = {
        key: record.model_copy(update={"exit_code": each})
        for each, (key, record) in zip(codes, kept.records.items(), strict=False)
    }
    assert exit_code(records) == code


def test_show_prints_the_cells_that_have_finished(half: Path, capsys: Captured) -> None:
    assert pageferry("show", str(half)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "plan: 4 of 8 cells" in out
    rows = [line.split() for line in out.splitlines() if line.lstrip().startswith("pre-copy")]
    assert rows[0][:5] == ["pre-copy", "40MB/s", "4MB/s", "1", "4"]
    assert rows[1][:6] == ["pre-copy", "40MB/s", "80MB/s", "0", "of", "1"]
    assert "Each combination was run once" in " ".join(out.split())
    assert "the best strategy" not in out  # only one has been run by now


def test_show_writes_tables_for_programs(half: Path, tmp_path: Path, capsys: Captured) -> None:
    target = tmp_path / "a.csv"
    assert pageferry("show", str(half), "--csv", str(target)) == 0
    with target.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["max-bandwidth"] for row in rows] == ["40MB/s", "40MB/s", "unlimited", "unlimited"]
    assert [row["downtime_ms"] for row in rows] == ["4.0", "", "4.0", "80.0"]
    assert [row["good"] for row in rows] == ["1", "0", "1", "1"]
    capsys.readouterr()
    sql = "SELECT cell_error FROM results WHERE exit_code > 0"
    assert pageferry("show", str(half), "--sql", sql, "--csv", str(target)) == 2
    assert "is there already: --force" in complaint(capsys)
    assert pageferry("show", str(half), "--sql", sql, "--csv", str(target), "--force") == 0
    assert target.read_text().split() == ["cell_error", "it", "broke"]


def test_show_writes_a_page_that_says_what_it_cannot_draw(
    half: Path, tmp_path: Path, capsys: Captured
) -> None:
    target = tmp_path / "a.html"
    assert pageferry("show", str(half), "--html", str(target)) == 0
    assert "plan: 4 of 8 cells" in capsys.readouterr().out
    page = target.read_text()
    assert "There is no map of the best strategy: only one strategy was run." in page
    assert "Downtime against dirty rate over bandwidth" in page
    assert "There is no run to show" not in page
