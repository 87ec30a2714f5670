"""`pageferry.sweep`: a plan's cells into a folder, in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

import pageferry
from pageferry import Status, aio

PLAN = """
runner = "simulate"
repeats = 1

[options]
memory = "64MiB"
workload = "zipf:rate=20MB/s"

[grid]
strategy = ["pre-copy", "post-copy", "stop-and-copy"]
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow", reason="needs pyarrow, of the sweep extra")
    file = tmp_path / "plan.toml"
    file.write_text(PLAN)
    return file


def test_its_cells_are_reports_with_a_table(
    plan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    reports = pageferry.sweep(plan, tmp_path / "out", on_status=lambda s: said.append(s.phase))
    assert {report.strategy for report in reports} == {"pre-copy", "post-copy", "stop-and-copy"}
    assert [row["strategy"] for row in reports.check().table] == [r.strategy for r in reports]
    assert (tmp_path / "out" / "results.parquet").exists()
    assert any(phase.startswith("1 of 3 cells · ") for phase in said)
    assert "<svg" in reports._repr_html_()
    assert capfd.readouterr() == ("", "")


def test_what_ended_it_is_no_reason_to_begin_again(plan: Path) -> None:
    def enough(status: Status) -> None:
        if status.phase.startswith("1 of 3"):
            raise LookupError

    with pytest.raises(LookupError):
        pageferry.sweep(plan, on_status=enough)
    begun: list[str] = []

    def note(status: Status) -> None:
        if status.phase.endswith("begins"):
            begun.append(status.phase)

    assert len(pageferry.sweep(plan, on_status=note)) == 3
    assert len(begun) in (0, 1, 2)  # what was under way may have ended before it heard
    assert all(not phase.startswith("0 of") for phase in begun)


async def test_a_choice_of_cells_is_run(plan: Path) -> None:
    reports = await aio.sweep(plan, filter="strategy=post-copy")
    assert [report.strategy for report in reports] == ["post-copy"]
    assert len(await aio.sweep(plan)) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"filter": "strategy=x"}, "--filter"),
        ({"runner": "walk"}, "--runner"),
        ({"log_dir": "logs"}, "writes no logs"),
        ({"fliter": "a=b"}, "did you mean filter"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(
    plan: Path, options: dict[str, str], words: str
) -> None:
    with pytest.raises(pageferry.UsageError, match=words):
        pageferry.sweep(plan, **options)  # type: ignore[arg-type]
    assert [file.name for file in plan.parent.iterdir()] == ["plan.toml"]
