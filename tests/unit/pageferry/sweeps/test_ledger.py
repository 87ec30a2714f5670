"""What has finished stays, whatever happens: the folder, and the loop that fills it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.errors import UsageError
from pageferry.pair import PairResult
from pageferry.runs.series import Signals
from pageferry.sweeps.cells import Cell
from pageferry.sweeps.driver import run_here
from pageferry.sweeps.ledger import Folder, Manifest, Record, pending, planned, read_manifest
from pageferry.sweeps.runners import Ran, Runner
from tests.support.sweep_tables import MIGRATE, PLAN, Kept, cells, moved

MADE = cells(PLAN)
BY_CONFIG = {cell.config: cell for cell in MADE}


class Power(BaseException):
    """It went off."""


class Store(Kept):
    """Memory that outlives who writes to it; the power goes off at the n-th step from now."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.off_at: int | None = None
        self.begun: list[str] = []

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.off_at:
            raise Power

    def save(self, record: Record, report: str | None) -> None:
        self.step()
        super().save(record, report)  # atomic, as the folder's rename is
        self.step()


class Again(Store):
    """A cell that is run again may take the place of the one that had failed, and no other."""

    def save(self, record: Record, report: str | None) -> None:
        old = self.records.get(record.key)
        if old is not None:
            assert old.failed
            del self.records[record.key]
        super().save(record, report)


def runner_of(store: Store, fails: Callable[[str], bool]) -> Runner:
    def run(config: object, *_: object) -> Ran:
        store.step()
        cell = BY_CONFIG[config]  # type: ignore[index]
        store.begun.append(cell.key)
        if fails(cell.key):
            return Ran(PairResult(None, 1, "it broke"))
        return Ran(PairResult(moved(cell), 0, None))

    return Runner("migrate", MIGRATE.options, run)


@given(
    cuts=st.lists(st.integers(1, 30), max_size=12),
    broken=st.sets(st.integers(0, 7)),
    retried=st.booleans(),
)
def test_no_cell_is_lost_or_doubled(cuts: list[int], broken: set[int], retried: bool) -> None:
    """The power goes off again and again; what is there afterwards is every cell, once."""
    made = MADE
    store = Again()
    bad = {made[index].key for index in broken}
    mended: set[str] = set()

    def go(*, retry_failed: bool = False) -> None:
        todo = pending(made, store.records, retry_failed=retry_failed)
        runner = runner_of(store, lambda key: key in bad - mended)
        assert not run_here(
            todo, runner=runner, store=store, watcher=store, signals=Signals(), log_dir=None
        )

    for cut in cuts:
        store.off_at = store.steps + cut
        before = dict(store.records)
        with contextlib.suppress(Power):
            go()
        assert before.items() <= store.records.items()
    store.off_at = None
    go()
    assert list(store.records) == [cell.key for cell in made]  # in order, too
    assert {key for key, record in store.records.items() if record.failed} == bad
    # One that was cut off is begun again; one that had finished never is.
    assert len(store.begun) <= len(made) + len(cuts)
    begun = len(store.begun)
    go()
    assert len(store.begun) == begun
    if retried:
        mended |= bad
        go(retry_failed=True)
        assert sorted(store.begun[begun:]) == sorted(bad)
        assert not any(record.failed for record in store.records.values())


def test_killed_again_and_again(tmp_path: Path) -> None:
    """SIGKILL at random moments: every record that is there is whole, and stays as it is."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.sweep_killing", str(tmp_path / "sweep")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] > 5
    assert sorted(found["cells"]) == sorted(cell.key for cell in cells(PLAN))
    with Folder(tmp_path / "sweep"):
        assert list((tmp_path / "sweep").rglob(".*")) == []


def test_one_sweep_at_a_time(tmp_path: Path) -> None:
    with Folder(tmp_path / "a"):
        with pytest.raises(UsageError, match="a is in use: another sweep writes there"):
            Folder(tmp_path / "a").__enter__()
        with Folder(tmp_path / "b"):
            pass
    with Folder(tmp_path / "a"):
        pass


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(UsageError, match="letters is there already, and is not of a sweep"):
        Folder(tmp_path / "letters").__enter__()
    assert [file.name for file in (tmp_path / "letters").iterdir()] == ["a.txt"]
    with pytest.raises(UsageError, match=r"a\.txt: File exists|a\.txt: Not a directory"):
        Folder(tmp_path / "letters" / "a.txt").__enter__()


def save(folder: Folder, cell: Cell, store: Kept) -> None:
    runner = Runner("migrate", MIGRATE.options, lambda *_: Ran(PairResult(moved(cell), 0, None)))
    run_here([cell], runner=runner, store=folder, watcher=store, signals=Signals(), log_dir=None)


def test_what_is_left_of_a_file_without_a_name_is_cleaned_up(tmp_path: Path) -> None:
    with Folder(tmp_path / "a") as folder:
        save(folder, cells(PLAN)[0], Kept())
    (tmp_path / "a" / "cells" / ".x.json.0123abcd").write_text("half")
    (tmp_path / "a" / ".hidden").write_text("somebody's")
    with Folder(tmp_path / "a"):
        names = [path.name for path in (tmp_path / "a").rglob(".*")]
    assert names == [".hidden"]


def test_a_damaged_record_is_a_cell_to_be_run(tmp_path: Path) -> None:
    made = cells(PLAN)
    with Folder(tmp_path / "a") as folder:
        for cell in made[:3]:
            save(folder, cell, Kept())
        files = [tmp_path / "a" / "cells" / f"{cell.key}.json" for cell in made]
        files[0].write_bytes(files[0].read_bytes()[:100])
        files[1].write_bytes(files[2].read_bytes())
        records, damaged = folder.records((cell.key for cell in made), MIGRATE)
        assert list(records) == [made[2].key]
        assert len(damaged) == 2
        assert "is not JSON: " in damaged[0]
        assert "is the record of another cell" in damaged[1]
        assert len(pending(made, records, retry_failed=False)) == 7


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a list": (lambda _: [], "is no record of a cell: the whole"),
    "deep": (lambda _: json.loads("[" * 900 + "]" * 900), "nested too deep"),
    "half of a pair": (lambda record: record | {"label": "\ud800"}, "label: '.ud800' is no text"),
    "a key that leads away": (lambda record: record | {"key": "../../../etc/x"}, "cell: key: "),
    "text for a figure": (
        lambda record: record | {"results": record["results"] | {"downtime_ms": "much"}},
        "cell: results.downtime_ms: expected float64, or null",
    ),
    "a count that no column has room for": (
        lambda record: record | {"results": record["results"] | {"rounds": 2**63}},
        "cell: results.rounds: expected int64",
    ),
    "a truth for a count": (
        lambda record: record | {"results": record["results"] | {"rounds": True}},
        "cell: results.rounds: expected int64",
    ),
    "an option of another type": (
        lambda record: record | {"options": {"memory": ["1MiB"]}},
        "cell: options: memory: ",
    ),
    "an unknown option": (lambda record: record | {"options": {"momory": "1MiB"}}, "options: mo"),
    "an unknown workload": (
        lambda record: record | {"options": {"workload": "no\0thing"}},
        "options: ",
    ),
    "attempts": (lambda record: record | {"attempts": 2**63}, "cell: attempts: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_record_that_is_crafted_is_one_line(name: str, tmp_path: Path) -> None:
    change, said = WRONG[name]
    cell = MADE[0]
    with Folder(tmp_path / "a") as folder:
        save(folder, cell, Kept())
        file = tmp_path / "a" / "cells" / f"{cell.key}.json"
        file.write_text(json.dumps(change(json.loads(file.read_bytes()))))
        records, (line,) = folder.records([cell.key], MIGRATE)
    assert records == {}
    assert line.startswith(str(file))
    assert re.search(said, line), line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"axes": ["strategy", "nonsense"]}, "axes.1: 'nonsense': unknown option"),
        ({"axes": ["strategy", "strategy"]}, "axes: expected each of them once"),
        ({"runner": "x\0y"}, "runner: unknown"),
        ({"cells": [{"key": "\0", "label": "", "repeat": 0, "point": {}}]}, "cells.0.key: "),
        ({"cells": 7}, "cells: "),
        ({"name": "\udc00"}, "name: .* is no text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_manifest_that_is_crafted_is_one_line(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    found = Manifest(name="m", runner="migrate", axes=("strategy",), cells=planned(MADE))
    with Folder(tmp_path / "a") as folder:
        folder.describe(found)
    assert read_manifest(tmp_path / "a") == found
    file = tmp_path / "a" / "sweep.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | change))
    with pytest.raises(UsageError, match=said) as caught:
        read_manifest(tmp_path / "a")
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with Folder(tmp_path / "a") as folder:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UsageError, match="a: No space left on device"):
            save(folder, cells(PLAN)[0], Kept())
        monkeypatch.undo()
        assert folder.records([cells(PLAN)[0].key], MIGRATE) == ({}, [])


def test_a_signal_ends_it_between_cells() -> None:
    store = Store()
    runner = runner_of(store, lambda _key: False)
    with Signals() as signals:
        made = cells(PLAN)

        def run(config: object, *others: object) -> Ran:
            if len(store.begun) == 2:
                signal.raise_signal(signal.SIGINT)
            return runner.run(config, *others)  # type: ignore[arg-type]

        assert run_here(
            made,
            runner=Runner("migrate", MIGRATE.options, run),
            store=store,
            watcher=store,
            signals=signals,
            log_dir=None,
        )
    assert list(store.records) == [cell.key for cell in made[:3]]


def test_a_cell_that_was_cancelled_has_never_been() -> None:
    store = Store()
    runner = Runner("migrate", MIGRATE.options, lambda *_: Ran(None, interrupted=True))
    made = cells(PLAN)
    assert run_here(
        made, runner=runner, store=store, watcher=store, signals=Signals(), log_dir=None
    )
    assert store.records == {}


def test_the_manifest_says_what_is_planned() -> None:
    made = cells(PLAN)
    found = planned(made)
    assert [cell.key for cell in found] == [cell.key for cell in made]
    assert found[0].point == {
        "strategy": "pre-copy",
        "max-bandwidth": "40MB/s",
        "workload.rate": "4MB/s",
    }
