"""What the reproduction prints, of runs that were made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pageferry.common.report.schema import Report
from pageferry.paper import findings, notes, published
from pageferry.paper.experiment import ExperimentCell, Setting, experiment_cells
from pageferry.paper.findings import Result
from pageferry.runs import tables
from pageferry.runs.series import RunAttempt, Series
from tests.support.plain_reports import cache, failed, report

SETTING = Setting((1e8,))
DRAINED = ("full", "dirty", *["drain"] * 9)

# (workload, strategy, cached): downtime, total, bytes, path, kinds of rounds
MADE_UP: dict[tuple[str, str, bool], tuple[float, float, int, int | None, tuple[str, ...]]] = {
    ("idle", "three-path", True): (34.8, 5400.0, 537_000_000, 1, ("full", "dirty", "final")),
    ("idle", "pre-copy", False): (40.0, 5400.0, 537_000_000, None, ("full", "final")),
    ("io-intensive", "three-path", True): (100.0, 9000.0, 900_000_000, 2, DRAINED),
    ("io-intensive", "pre-copy", False): (1000.0, 10_000.0, 1_000_000_000, None, ("full", "final")),
    ("io-intensive", "three-path", False): (125.0, 9000.0, 1_000_000_000, 2, DRAINED),
    ("memory-intensive", "three-path", True): (12.9, 6000.0, 800_000_000, 3, ("full",)),
    ("memory-intensive", "pre-copy", False): (2600.0, 32_000.0, 3_000_000_000, None, ("full",)),
    ("web-browsing", "three-path", True): (2.0, 5500.0, 550_000_000, 1, ("full", "final")),
    ("matrix-multiply", "three-path", True): (20.0, 24_000.0, 2_500_000_000, 2, DRAINED),
    ("game-server", "three-path", True): (20.0, 6000.0, 860_000_000, 2, ("full",)),
}


def made_up(cell: ExperimentCell) -> Report:
    config = cell.case.config
    downtime, total, size, path, kinds = MADE_UP[config.workload, config.strategy, cell.cached]
    return report(
        downtime_ms=downtime,
        total_time_ms=total,
        bytes_on_wire=size,
        path=path,
        kinds=kinds,
        cache=cache(30, 70) if cell.cached else None,
    )


def series_of(cells: list[ExperimentCell], *, leave_out: tuple[int, ...] = ()) -> Series:
    series = Series(
        [cell.case for cell in cells],
        1,
        log_dir=Path("/nowhere"),
        show=lambda _status: None,
        finished=lambda _line: None,
    )
    series.attempts = [
        RunAttempt(index, made_up(cell), 0, None)
        for index, cell in enumerate(cells)
        if index not in leave_out
    ]
    return series


def results(*, setting: Setting = SETTING, leave_out: tuple[int, ...] = ()) -> list[Result]:
    cells = experiment_cells(setting)
    return findings.experiment_results(series_of(cells, leave_out=leave_out), cells)


def sheet(title: str, found: list[Result], setting: Setting = SETTING) -> tables.Sheet:
    return next(one for one in findings.sheets(found, setting) if title in one.title)


def row(found: list[Result], workload: str, strategy: str, *, cached: bool) -> dict[str, Any]:
    for each in found:
        if (each.cell.case.config.workload, each.cell.strategy, each.cell.cached) == (
            workload,
            strategy,
            cached,
        ):
            return findings.to_json(each, found, SETTING)
    raise AssertionError("no such row")


def test_what_was_measured_stands_beside_what_was_printed() -> None:
    measured = sheet("The paper's experiment", results())
    assert "512MiB guest, 4MiB cache, link of 100MB/s" in measured.title
    assert measured.columns[7:13] == (
        *("downtime ms", "paper", "ratio", "total ms", "paper", "ratio"),
    )
    assert measured.rows[0] == (
        *("none", "three-path", "yes", "1", "1", "3", "3"),
        *("34.8", "348", "0.1", "5,400", "35,175", "0.154", "537 MB", "yes"),
    )
    assert measured.rows[2][3:10] == ("2", "2", "11 (9)", "9", "100", "554", "0.181")
    assert measured.rows[3][3:10] == ("–", "–", "2", "9", "1,000", "1,384", "0.723")
    assert measured.rows[5][3:10] == ("3", "3", "1", "1", "12.9", "129", "0.1")


def test_where_the_paper_says_nothing() -> None:
    measured = sheet("The paper's experiment", results())
    assert measured.rows[1][8:10] == ("–", "–")
    out = row(results(), "idle", "pre-copy", cached=False)
    assert out["paper_downtime_ms"] is out["downtime_to_paper"] is None


def test_the_row_for_programs() -> None:
    out = row(results(), "io-intensive", "three-path", cached=True)
    assert (out["part"], out["rate"], out["cache"]) == ("experiment", 1e8, 4 * 2**20)
    assert (out["path"], out["paper_path"]) == (2, 2)
    assert (out["drain_rounds"], out["paper_rounds"]) == (9, 9)
    assert (out["paper_downtime_ms"], out["paper_total_time_ms"]) == (554, 19_989)
    assert out["downtime_to_paper"] == pytest.approx(100 / 554)
    assert out["downtime_ms_ratio"] == pytest.approx(0.1)  # to pre-copy without the cache
    assert out["total_time_ms_ratio"] == pytest.approx(0.9)
    assert out["changed_in_round_1"] == 0.2
    assert out["paper_source"] == "table II"


def test_the_caches_effect_and_the_caches_alone() -> None:
    together, alone = findings.effects(results())
    assert (together.downtime, together.total, together.bytes) == pytest.approx((0.1, 0.9, 0.9))
    assert together.claimed == 0.4
    assert (alone.downtime, alone.total, alone.bytes) == pytest.approx((0.8, 1.0, 0.9))
    assert alone.claimed is None
    assert sheet("What the cache did", results()).rows[1][2:] == ("0.8", "1", "0.9", "–")


def test_examples_and_the_path_that_they_took() -> None:
    examples = sheet("worked examples", results())
    assert [(line[1], line[3], line[4]) for line in examples.rows] == [
        ("web-browsing", "1", "1"),
        ("matrix-multiply", "2", "2"),
        ("game-server", "2", "3"),  # as made up: not what the paper expects
    ]
    out = row(results(), "game-server", "three-path", cached=True)
    assert (out["part"], out["path"], out["paper_path"]) == ("example", 2, 3)
    assert out["downtime_ms_ratio"] is None


def test_locality_is_computed_from_the_runs_with_a_cache() -> None:
    found = notes.locality(results(), SETTING)
    assert found is not None
    assert found.hit_share == 0.3
    assert found.working_set == 128 * 2**20
    assert found.cache == 4 * 2**20
    assert found.lines_per_visit == 64
    note = next(line for line in notes.remarks(SETTING, found) if "locality" in line)
    assert "30.0 % of its accesses hit" in note
    assert "128MiB is 32 caches" in note


def test_the_papers_times_are_scaled_as_the_guest_is() -> None:
    setting = Setting((1e8,), scale=16)
    found = results(setting=setting)
    measured = sheet("The paper's experiment", found, setting)
    assert measured.columns[8] == "paper / 16"
    assert "32MiB guest, 256KiB cache" in measured.title
    assert measured.rows[0][8:10] == ("21.8", "1.6")  # 348 / 16; 34.8 * 16 / 348
    assert "Scaled down" in notes.remarks(setting, None)[0]


def test_what_was_interrupted_says_what_it_can() -> None:
    cells = experiment_cells(SETTING)
    found = results(leave_out=tuple(range(1, len(cells))))
    assert [each.cell for each in found] == cells[:1]
    assert [one.title[:22] for one in findings.sheets(found, SETTING)] == ["The paper's experiment"]
    assert findings.effects(found) == []
    assert notes.locality(found, SETTING) is None
    assert results(leave_out=tuple(range(len(cells)))) == []
    assert findings.sheets([], SETTING) == []


def test_a_run_that_failed_is_a_row() -> None:
    cells = experiment_cells(SETTING)
    series = series_of(cells, leave_out=(2,))
    series.attempts.append(failed(2, error="the link broke"))
    found = findings.experiment_results(series, cells)
    lost = sheet("The paper's experiment", found).rows[2]
    assert lost[7:] == ("–", "554", "–", "–", "19,989", "–", "–", "FAILED")
    together, alone = findings.effects(found)
    assert together.downtime is alone.downtime is None
    assert notes.locality(found, SETTING) is None


def test_the_papers_oddities_are_always_said() -> None:
    text = " ".join(notes.remarks(SETTING, None))
    assert "the last +5 is missing" in text
    assert "15 MB/s: nearer to a link of 100 Mbit/s" in text
    assert len(published.NOTES) == 3
