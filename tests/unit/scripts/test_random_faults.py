"""The script of random faults: what it does next, what it takes up again, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import random_faults
from scripts.random_faults import Plan, Records, main, summary, table
from tests.support.random_cases import CELLS, FAULTS, Cell


def record(cell: Cell, seed: int, status: str) -> dict[str, Any]:
    return {"cell": str(cell), "seed": seed, "status": status, "commit": "abc1234"}


def test_what_has_ended_is_taken_up_again(tmp_path: Path) -> None:
    first = Records.read(tmp_path)
    first.add(record(CELLS[0], 0, "hit"))
    first.add(record(CELLS[1], 0, "missed"))
    again = Records.read(tmp_path)
    assert again.done == first.done
    assert again.counted() == {str(CELLS[0]): 1}


def test_a_line_that_was_cut_off_counts_for_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    Records.read(tmp_path).add(record(CELLS[0], 0, "hit"))
    whole = (tmp_path / "records.jsonl").read_bytes()
    (tmp_path / "records.jsonl").write_bytes(whole + whole[: len(whole) // 2])
    records = Records.read(tmp_path)
    assert list(records.done) == [(str(CELLS[0]), 0)]
    records.add(record(CELLS[0], 1, "hit"))
    assert Records.read(tmp_path).counted() == {str(CELLS[0]): 2}


def test_each_cell_gets_its_share_and_what_missed_is_made_up_for(tmp_path: Path) -> None:
    records = Records.read(tmp_path)
    plan = Plan(records, wanted=2)
    started = []
    while (case := plan.next()) is not None:
        cell, seed = case
        started.append(case)
        plan.under_way.discard((str(cell), seed))
        missed = cell == CELLS[5] and seed == 0
        records.done[str(cell), seed] = record(cell, seed, "missed" if missed else "hit")
    assert sorted(seed for cell, seed in started if cell == CELLS[5]) == [0, 1, 2]
    assert len(started) == 2 * len(CELLS) + 1
    assert set(records.counted().values()) == {2}


def test_a_cell_that_is_never_hit_is_given_up(tmp_path: Path) -> None:
    records = Records.read(tmp_path)
    plan = Plan(records, wanted=1)
    while (case := plan.next()) is not None:
        cell, seed = case
        plan.under_way.discard((str(cell), seed))
        records.done[str(cell), seed] = record(cell, seed, "missed")
    assert len(records.done) == random_faults.MOST_TRIES * len(CELLS)


def test_cases_under_way_are_not_begun_twice(tmp_path: Path) -> None:
    plan = Plan(Records.read(tmp_path), wanted=1)
    begun = [plan.next() for _ in CELLS]
    assert len(set(begun)) == len(CELLS)
    assert plan.next() is None


def test_the_table_has_every_cell_and_says_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = [record(cell, seed, "hit") for cell in CELLS for seed in range(3)]
    done += [record(CELLS[0], 3, "failed"), record(CELLS[0], 4, "missed")]
    text = table(done)
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(rows) * len(FAULTS) == len(CELLS)
    assert rows[0].startswith("| set-up | stop-and-copy | 4 (1 failed) | 3 | 3 |")
    assert summary(done) in text
    assert "577 cases: 1 failed; 1 more missed" in text
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(each) + "\n" for each in done))
    assert main(["--folder", str(tmp_path), "--counts"]) == 1
    assert capsys.readouterr().out.strip() == text.strip()


def test_a_cell_that_there_is_not_is_said_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "rounds/pre-copy/kill/nobody"])
    assert "rounds/pre-copy/kill/dest" in capsys.readouterr().err
