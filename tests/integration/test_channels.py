"""Several bulk channels, both ways of pacing, memory that is there early: verified migrations."""

from __future__ import annotations

from typing import Any

import pytest
import uvloop

from pageferry.commands.certs import certs
from pageferry.common.config.model import MigrationConfig
from tests.integration.test_postcopy_broken import CONFIG as BROKEN
from tests.integration.test_postcopy_broken import CutOnce
from tests.support.harness import migrate
from tests.support.inprocess import move
from tests.support.through_relay import moved_through
from tests.support.tiers import some

CONFIG = MigrationConfig(
    memory=2**24,
    workload="zipf:rate=40MB/s,zero-share=20%",
    max_bandwidth=80e6,
    warmup=0.05,
    run_after=0.05,
    postcopy_after="rounds=1",
)
# Each number of channels, both ways of pacing, with and without checksums and a rate limit.
CASES: list[dict[str, Any]] = [
    {"channels": 2, "strategy": "pre-copy", "pacing": "kernel"},
    {"channels": 4, "strategy": "pre-copy", "checksum": False, "max_bandwidth": float("inf")},
    {"channels": 4, "strategy": "stop-and-copy", "max_bandwidth": float("inf")},
    {"channels": 2, "strategy": "hybrid", "faults": "kernel"},
    {"channels": 4, "strategy": "post-copy", "faults": "software", "pacing": "kernel"},
    {"channels": 2, "strategy": "post-copy", "faults": "kernel", "checksum": False},
    {"channels": 64, "strategy": "three-path", "high": 0.0, "low": 0.0},
    {"channels": 1, "strategy": "lazy-copy", "pacing": "kernel"},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_each_case_with_channels_verifies(case: dict[str, Any]) -> None:
    report = uvloop.run(move(CONFIG.model_copy(update=case)))
    assert report.verified is True
    assert report.config["channels"] == case["channels"]
    if case["strategy"] != "lazy-copy":
        assert report.pages_sent + report.zero_pages >= 2**24 // 4096
    limited = case.get("max_bandwidth") is None and case["strategy"] == "pre-copy"
    assert not limited or report.burstiness is not None


@pytest.mark.parametrize("offsets", [[2**19], [2**20, 2**21]])
def test_all_of_them_come_back(offsets: list[int]) -> None:
    config = BROKEN.model_copy(update={"channels": 4})
    report, error, _said, _relay = uvloop.run(moved_through(config, CutOnce(*offsets)))
    assert error is None
    assert report.verified is True
    assert [event for event in report.events if event.event == "postcopy-recovered"]


# Pages that are read from where they lie, after the call that sent them, while the guest writes.
@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("granularity", ["page", "line"])
@pytest.mark.parametrize("strategy", some(["pre-copy", "hybrid", "three-path"], 2))
def test_pages_in_place_of_a_busy_guest(strategy: str, granularity: str, checksum: bool) -> None:
    case = {
        "strategy": strategy,
        "granularity": granularity,
        "checksum": checksum,
        "memory": 2**25,
        "workload": "uniform:rate=400MB/s",
        "max_bandwidth": float("inf"),
        "channels": 2,
    }
    report = uvloop.run(move(CONFIG.model_copy(update=case)))
    assert report.verified is True
    assert report.pages_sent >= 2**25 // 4096


def test_channels_over_tls_verify(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("keys")
    assert certs(folder) == 0
    update = {"channels": 2, "strategy": "hybrid"}
    config = CONFIG.model_copy(update=update)
    report, error, _, _ = uvloop.run(moved_through(config, folder=folder / "dest"))
    assert error is None
    assert report.verified is True


def test_channels_between_processes_verify() -> None:
    run = migrate(
        *("--channels", "2", "--pacing", "kernel", "--strategy", "pre-copy"),
        *("--memory", "16MiB", "--max-bandwidth", "100MB/s", "--workload", "uniform"),
    )
    assert run.exit_code == 0, run.stderr
    assert (run.report.config["channels"], run.report.config["pacing"]) == (2, "kernel")
    assert run.report.burstiness is not None
    assert run.report.burstiness.pacing == "kernel"
