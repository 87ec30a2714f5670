"""Whole migrations whose dirty pages the kernel tells."""

from __future__ import annotations

import pytest

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import UsageError
from pageferry.common.guest.machine import Guest
from tests.support.file_agent import migrate


def _refusal() -> str:
    guest = Guest(GuestConfig(memory=2**20, cache=0), boot=True)
    try:
        guest.track_by_kernel()
    except UsageError as error:
        return str(error)
    finally:
        guest.close()
    return ""


REFUSAL = _refusal()
pytestmark = pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL or "available")

PATH_2 = ("--low", "0%", "--high", "100%", "--max-rounds", "3")
CASES = (
    ("pre-copy", "0", "2", "uniform:rate=20MB/s", ()),
    ("three-path", "4MiB", "1", "io-intensive", (*PATH_2, "--path3", "stop-and-copy")),
    ("three-path", "4MiB", "2", "zipf:working-set=25%", PATH_2),
    ("hybrid", "1MiB", "1", "memory-intensive", ()),
    ("post-copy", "0", "2", "game-server", ()),
    ("pre-copy", "4MiB", "1", "memory-intensive", ("--auto-converge", "--max-rounds", "4")),
)


@pytest.mark.parametrize(("strategy", "cache", "vcpus", "workload", "more"), CASES)
def test_nothing_is_lost(
    strategy: str, cache: str, vcpus: str, workload: str, more: tuple[str, ...]
) -> None:
    run = migrate(
        *("--dirty-tracker", "kernel", "--strategy", strategy, "--cache", cache, "--vcpus", vcpus),
        *("--workload", workload, "--memory", "16MiB", "--max-bandwidth", "400MB/s", *more),
    )
    assert run.exit_code == 0, run.stderr
    report = run.report
    assert report.verified is True
    assert report.config["dirty_tracker"] == "kernel"
    assert report.lines_sent is None  # it knows pages only, so they travel whole
    if strategy not in ("post-copy", "hybrid"):
        assert report.pages_resent > 0
        # The first round sends all, and what is dirty after it is what was written meanwhile.
        assert 0 < report.rounds[0].dirty_pages_after < 16 * 256
