"""What is refused, and how that is said: what, where, what was expected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.command_line import SMALL, pageferry
from tests.support.tiers import FULL

LIBRARY = re.compile(
    r"Input should|validation error|Unused Tokens|requires an argument|coerc|\*:|e\+|expected text"
)
SHORT = ("--memory", "1MiB", "--cache", "0", "--warmup", "0s", "--run-after", "0s")
SIMULATE = ("simulate", "--memory", "64MiB", "--max-bandwidth", "10MB/s")

REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a guest of 64 bytes": (
        ("migrate", "--memory", "64"),
        ("--memory", "64B", "expected a size from 4KiB to 16TiB"),
    ),
    "too many channels": (("migrate", "--channels", "65"), ("--channels", "65", "from 1 to 64")),
    "no channels": (("migrate", "--channels", "0"), ("--channels", "from 1 to 64")),
    "channels in words": (("migrate", "--channels", "many"), ("many", "whole number from 1 to 64")),
    "a delay in minutes": (
        ("migrate", "--net", "delay=10m"),
        ("--net: delay", "10m", "10min", "from 0s to 1min"),
    ),
    "a simulated delay in minutes": (
        (*SIMULATE, "--link", "delay=10m"),
        ("--link: delay", "from 0s to 1min"),
    ),
    "a slow link": ((*SIMULATE, "--link", "rate=1kbit"), ("rate", "1kbit", "at least 1kB/s")),
    "a slow real link": (("migrate", "--net", "rate=1kbit"), ("1kbit", "at least 1kB/s")),
    "no bandwidth": (("migrate", "--max-bandwidth", "0"), ("--max-bandwidth", "zero", "unlimited")),
    "no bandwidth in mbit": (("migrate", "--max-bandwidth", "0mbit"), ("zero", "unlimited")),
    "no rate of a link": (("migrate", "--net", "rate=0"), ("zero", "unlimited")),
    "a loss without a unit": (
        ("migrate", *SHORT, "--net", "loss=0.1"),
        ("loss", "tc", "0.1%", "10%"),
    ),
    "a simulated loss": ((*SIMULATE, "--link", "loss=1"), ("tc", "1%", "100%")),
    "a loss on the way back": (("migrate", *SHORT, "--net", "loss-back=0.5"), ("0.5%", "50%")),
    "reordering": (("migrate", *SHORT, "--net", "delay=1ms,reorder=0.5"), ("0.5%", "50%")),
    "a loss of a schedule": (
        ("migrate", *SHORT, "--net", "delay=1ms", "--schedule", "at 1s loss=0.1"),
        ("--schedule", "0.1%", "10%"),
    ),
    "a loss of net up": (("net", "up", "--loss", "0.1"), ("--loss", "0.1%", "10%")),
    "gbps": (("migrate", "--max-bandwidth", "10gbps"), ("10GB/s", "10gbit", "tc", "iperf3")),
    "Mbps of a link": ((*SIMULATE, "--link", "rate=100Mbps"), ("100MB/s", "100mbit")),
    "a bare G": (("migrate", "--max-bandwidth", "10G"), ("10GB/s", "10gbit", "QEMU", "iperf3")),
    "a bare m": (("migrate", "--net", "rate=100m"), ("100MB/s", "100mbit")),
    "a small b": (("migrate", "--max-bandwidth", "10Gb/s"), ("10GB/s", "10gbit")),
    "a workload's gbps": (
        ("migrate", "--workload", "uniform:rate=1gbps"),
        ("uniform", "rate", "1GB/s", "1gbit"),
    ),
    "a share of ten": (("migrate", "--low", "10"), ("--low", "0 to 100%", "10%")),
    "time without a unit": (("migrate", "--warmup", "5"), ("--warmup", "300ms")),
    "precopy": (("migrate", "--strategy", "precopy"), ("precopy", "did you mean pre-copy?")),
    "postcopy in a comparison": (
        ("compare", "--strategies", "hybrid,postcopy"),
        ("postcopy", "did you mean post-copy?"),
    ),
    "a command": (("migrat",), ("migrat", "did you mean migrate?")),
    "a command of a host": (("host", "lst"), ("lst", "did you mean list?")),
    "an option": (("migrate", "--memroy", "1GiB"), ("--memroy", "did you mean --memory?")),
    "a key of a link": (("migrate", "--net", "dely=5ms"), ("dely", "did you mean delay?")),
    "a key of a simulated link": (
        (*SIMULATE, "--link", "windw=1MiB"),
        ("windw", "did you mean window?"),
    ),
    "a point": (("migrate", "--inject", "conected:kill"), ("conected", "did you mean connected?")),
    "an action": (("migrate", "--inject", "connected:kil"), ("kil", "did you mean kill?")),
    "a trigger": (("migrate", "--postcopy-after", "round=2"), ("did you mean rounds?",)),
    "a size alone": (("migrate", "1GiB"), ("1GiB", "--memory 1GiB")),
    "a strategy alone": (("migrate", "pre-copy"), ("--strategy pre-copy",)),
    "a workload alone": (("migrate", "zipf:rate=1MB/s"), ("--workload zipf:rate=1MB/s",)),
    "a rate alone": (("migrate", "100mbit"), ("--max-bandwidth 100mbit",)),
    "nothing behind an option": (("migrate", "--memory"), ("--memory", "expected a size")),
    "a rate where a kind of link is expected": (
        ("migrate", "--link", "10gbit"),
        ("--net rate=10",),
    ),
    "two delays": (("migrate", "--net", "rtt=2ms,delay=1ms"), ("rtt", "delay", "one of the two")),
    "a time alone": ((*SIMULATE, "--link", "5ms"), ("delay=5ms", "rtt=5ms")),
    "no page of memory": (("migrate", "--memory", "4GB"), ("4096", "expected something like 4GiB")),
    "a congestion control": (("migrate", "--congestion", "a b"), ("--congestion", "cubic")),
    "the wait of a guest in doubt": (
        ("host", "resume", "--recover-timeout", "2h"),
        ("--recover-timeout", "above 0s and at most 1h"),
    ),
    "a guest's name": (("host", "verify", "--guest", "A B"), ("--guest", "small letters")),
    "a cache of three": (
        ("migrate", "--cache", "3KiB"),
        ("pageferry: --cache 3KiB", "expected 2KiB or 4KiB"),
    ),
    "lines that are no power of two": (
        ("host", "--boot", "--listen", "127.0.0.1:0", "--cache-line", "100"),
        ("pageferry: --cache-line 100", "expected one from 64 to 4096"),
    ),
    "shares in the wrong order": (
        ("simulate", "--low", "60%", "--high", "50%"),
        ("pageferry: --low 60%", "--high 50%"),
    ),
    "an option that another asks for": (
        ("migrate", "--assume-bandwidth", "10gbit"),
        ("pageferry: --assume-bandwidth", "--predict"),
    ),
    "a seed": (("migrate", "--seed", "x"), ("--seed", "from 0 to 9223372036854775807")),
    "less than no memory": (
        ("migrate", "--memory", "-64MiB"),
        ("--memory: '-64MiB'", "expected a size from 4KiB"),
    ),
    "less than no time": (
        ("predict", "--warmup", "-1s"),
        ("--warmup: '-1s'", "expected a time from 0s"),
    ),
    "a trigger's time": (
        ("migrate", "--postcopy-after", "time=5"),
        ("--postcopy-after", "'time=5'", "300ms"),
    ),
    "a flag": (("migrate", "--verify=3"), ("--verify", "true or false")),
}
ALWAYS = 3
NAMES = list(REFUSED) if FULL else list(REFUSED)[::ALWAYS]


@pytest.mark.parametrize("name", NAMES)
def test_one_line_says_what_where_and_what_was_expected(name: str) -> None:
    arguments, words = REFUSED[name]
    run = pageferry(*arguments)
    if arguments[:2] == ("net", "up") and run.exit_code == 0:
        pageferry("net", "down")  # nothing is left of what should have been refused
    assert run.exit_code == 2, run.stdout
    assert run.stdout == ""
    assert sum(line.startswith("pageferry: ") for line in run.lines) == 1
    assert not LIBRARY.search(run.complaint)
    assert [word for word in words if word not in run.complaint] == [], run.complaint


UNDERSTOOD = {
    "bits a second": (("--link", "rate=10gbit/s"), {"rate": "1.25GB/s"}),
    "a rate alone": (("--link", "10gbit"), {"rate": "1.25GB/s"}),
    "a rate alone, and a delay": (("--link", "10gbit,delay=1ms"), {"delay": "1ms"}),
    "a round trip": (("--link", "rate=10gbit,rtt=2ms"), {"delay": "1ms"}),
    "a large letter": (("--link", "rate=10Gbit,rtt=2 MS"), {"delay": "1ms"}),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_link_as_other_tools_write_it(name: str) -> None:
    link, _ = UNDERSTOOD[name]
    plain = (
        "--link",
        "rate=1.25GB/s,delay=1ms" if "1ms" in str(UNDERSTOOD[name]) else "rate=10gbit",
    )
    run, same = (
        pageferry("simulate", "--memory", "64MiB", *each, "--json", "-") for each in (link, plain)
    )
    assert run.exit_code == 0, run.stderr
    assert run.json["total_time_ms"] == same.json["total_time_ms"]


def test_a_real_link_has_half_of_its_round_trip_each_way() -> None:
    options = ("--strategy", "stop-and-copy", "--no-verify", "--link", "relay")
    run = pageferry("migrate", *SMALL, *options, "--net", "100mbit,rtt=8ms", "--json", "-")
    assert run.exit_code == 0, run.stderr
    net = run.json["net"]
    assert (net["forward"]["delay_ms"], net["back"]["delay_ms"]) == (4.0, 4.0)
    assert net["forward"]["rate_Bps"] == 12.5e6


def test_a_plan_reads_the_same(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('[options]\nnet = "10gbit/s,rtt=2ms"\n[grid]\nstrategy = ["pre-copy"]\n')
    assert pageferry("sweep", str(plan), "--dry-run").exit_code == 0
    plan.write_text("[grid]\nnet.loss = [0.001]\n")
    run = pageferry("sweep", str(plan), "--dry-run")
    assert run.exit_code == 2
    assert "0.001%" in run.complaint
    assert "0.1%" in run.complaint


def test_a_plan_is_told_what_was_meant(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('[grid]\nstrategy = ["precopy"]\n')
    run = pageferry("sweep", str(plan), "--dry-run")
    assert run.exit_code == 2
    assert run.complaint.rstrip().endswith("did you mean pre-copy?")


def test_help_names_rates() -> None:
    assert "--assume-bandwidth RATE" in pageferry("migrate", "--help").stdout
