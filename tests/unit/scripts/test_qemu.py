"""The comparison with QEMU, as far as it needs none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pageferry.common.config.guest import GuestConfig
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import UsageError
from scripts import bench_qemu
from scripts.bench_qemu import BENCHES, comparisons, require, rows, small, workload
from scripts.bench_qemu_boot import boot_sector
from scripts.bench_qemu_machine import TICKS_PER_S, Accelerator, Outcome, ticks_of
from scripts.bench_rows import Effort

KVM = Accelerator("kvm", native=False)
MOVED = Outcome(1000.0, 20.0, 10**9, 0.5, 0.25)
GAVE_UP = Outcome(math.inf, None, 2 * 10**9, math.nan, 0.5)


@pytest.mark.parametrize("name", BENCHES)
def test_both_can_be_given_each_case(name: str) -> None:
    comparison = comparisons()[name]
    MigrationConfig.model_validate({"memory": comparison.qemu.memory, **comparison.ours})
    for case in (comparison.qemu, small(comparison.qemu)):
        guest = GuestConfig.model_validate({"memory": case.memory, "workload": workload(case)})
        assert guest.memory == case.memory
        assert len(boot_sector(case.memory, case.working_set, case.dirty_rate)) == 512


def test_ours_writes_the_same_pages() -> None:
    cases = comparisons()
    assert workload(cases["limited"].qemu) == "idle"
    expected = "sequential:working-set=24MiB,rate=41.94304MB/s,lines=1"
    assert workload(cases["some"].qemu) == expected
    assert "rate=max" in workload(cases["pre-copy"].qemu)


def test_what_was_given_up_has_no_times_and_is_noted() -> None:
    comparison = comparisons()["pre-copy"]
    found = rows(comparison, comparison.qemu, KVM, [MOVED, GAVE_UP, MOVED], [GAVE_UP])
    by_name = {each.name: each for each in found}
    assert by_name["total"].values == [1000.0, 1000.0]
    assert by_name["total"].ratio is None
    assert by_name["sent"].references == [2000.0]
    assert by_name["source's CPU"].references == []
    note = "ours: 1 of 3 not within 20 s; QEMU: 1 of 1 not within 20 s"
    assert {each.note for each in found} == {note}
    assert {each.against for each in found} == {"QEMU (kvm, which interprets here)"}


def test_the_bar_is_of_guest_memory_a_second() -> None:
    comparison = comparisons()["unlimited"]
    ours = Outcome(500.0, 5.0, 10**9, 0.5, 0.25)
    found = rows(comparison, comparison.qemu, KVM, [ours], [MOVED])[-1]
    assert (found.name, found.ratio, found.met) == ("guest memory", 2.0, True)


def test_without_qemu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_qemu, "installed", lambda: False)
    with pytest.raises(UsageError, match="is not installed"):
        require()
    (row,) = BENCHES["limited"](Effort(quick=True))
    assert row.ours is None
    assert "is not installed" in row.note


def test_ticks_are_found_behind_any_name(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("7 (a ) 1 (b) S 1 2 3 4 5 6 7 8 9 10 30 12 13 14 15\n")
    assert ticks_of(stat) == 42
    assert TICKS_PER_S > 0
