"""Whatever a network does: a post-copy completes, or ends within the limit that the user set."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pageferry.common.report.schema import Report
from tests.support.command_line import Run, pageferry
from tests.support.harness import children_of
from tests.support.relay import relay
from tests.support.running import SOON_S, Running, destination, running, standing_still, state_of
from tests.support.tiers import FULL

# 16 MiB in about 1.6 s, while the guest writes to all of it.
GUEST = ("--memory", "16MiB", "--warmup", "100ms", "--run-after", "100ms", "--cache", "0")
POST_COPY = (
    *GUEST,
    *("--strategy", "post-copy", "--max-bandwidth", "10MB/s"),
    *("--workload", "uniform:working-set=100%,rate=1MB/s"),
)
FOLLOWS = "its memory follows"


def attempts(ended: Run) -> list[float]:
    """When each outage's attempts were made, ms: the source's breaks."""
    events = ended.json["events"]
    return [e["t_ms"] for e in events if (e["agent"], e["event"]) == ("source", "postcopy-paused")]


def moments() -> list[tuple[str, ...]]:
    """Two breaks each: those of the case, and others at random moments."""
    chance = random.Random(11)  # noqa: S311
    points = ["source/recovering", "dest/recovering", *(f"source/postcopy-{n}%" for n in (7, 40))]
    points += [f"dest/postcopy-{n}%" for n in (7, 40)]
    cases = [("source/postcopy-5%", "source/recovering")] * (25 if FULL else 1)
    while len(cases) < (50 if FULL else 2):
        first, second = f"source/postcopy-{chance.randint(0, 30)}%", chance.choice(points)
        cases.append((first, second))
    return [tuple(f"{point}:cut" for point in case) for case in cases]


@pytest.mark.parametrize("faults", moments(), ids="+".join)
def test_two_breaks_over_a_long_link_are_two_attempts(faults: tuple[str, ...]) -> None:
    injected = [word for fault in faults for word in ("--inject", fault)]
    ended = pageferry(
        *(
            "migrate",
            "--link",
            "relay",
            "--net",
            "delay=50ms,rate=100mbit",
            "--json",
            "-",
            "--quiet",
        ),
        *("--strategy", "post-copy", "--memory", "16MiB", "--max-bandwidth", "5MB/s"),
        *("--workload", "uniform:working-set=8MiB,rate=5MB/s", "--recover-timeout", "5s"),
        *("--warmup", "100ms", "--run-after", "100ms"),
        *injected,
    )
    assert ended.exit_code == 0, ended.stderr
    assert 1 <= len(attempts(ended)) <= len(faults) + 1


@pytest.mark.parametrize("limit_s", [1, 3])
def test_the_limit_is_the_user_s_and_not_ours(limit_s: int) -> None:
    """The destination stands still for much longer."""
    with (
        destination("--once", "--inject", "dest/postcopy-30%:stall:60s") as (dest, where),
        running(
            *("source", "--to", where, "--quiet", *POST_COPY),
            *("--stall-timeout", "1s", "--recover-timeout", f"{limit_s}s"),
        ) as source,
    ):
        source.wait_phase("reconnecting")
        began = time.monotonic()
        ended = source.end(timeout=limit_s + SOON_S + 30)
        took = time.monotonic() - began
        dest.tell(signal.SIGCONT)
    assert ended.exit_code == 4, ended.stderr
    assert "could not be reached again" in ended.complaint
    assert took < limit_s + SOON_S


@pytest.mark.skipif(not FULL, reason="takes 40 s: scripts/test --full runs it")
def test_a_destination_that_is_silent_for_long_within_the_limit_costs_nothing() -> None:
    ended = pageferry(
        *("migrate", "--quiet", "--json", "-", *POST_COPY, "--inject", "postcopy-20%:cut"),
        *("--inject", "dest/recovering:stall:33s", "--recover-timeout", "120s"),
        timeout=120.0,
    )
    assert ended.exit_code == 0, ended.stderr


def test_a_destination_that_is_silent_within_the_limit_costs_nothing() -> None:
    ended = pageferry(
        *("migrate", "--quiet", "--json", "-", *POST_COPY, "--inject", "postcopy-20%:cut"),
        *("--inject", "dest/recovering:stall:4s", "--recover-timeout", "30s"),
        *("--stall-timeout", "1s"),
    )
    assert ended.exit_code == 0, ended.stderr


# -- the way out ----------------------------------------------------------------------------------


def notice_of(pattern: str) -> Any:
    return lambda key, value: key == "status" and pattern in (value["notice"] or "")


@contextlib.contextmanager
def under_way() -> Iterator[tuple[Running, Running]]:
    """A destination and its source, pages missing, and every time limit far away."""
    patient = ("--stall-timeout", "300s")
    options = ("--recover-timeout", "300s", *patient)
    with (
        destination(*patient) as (dest, where),
        running("source", "--to", where, "--quiet", *POST_COPY, *options) as source,
    ):
        source.wait_phase(FOLLOWS)
        dest.wait_key("resumed")
        yield dest, source


def test_a_healthy_post_copy_is_seen_through_and_it_is_said_how_long_that_takes() -> None:
    with (
        destination("--once", "--quiet") as (dest, where),
        running("source", "--to", where, "--quiet", *POST_COPY) as source,
    ):
        source.wait_status(
            lambda key, value: (
                key == "status" and FOLLOWS in value["phase"] and value["total_bytes"] > 4e6
            )
        )
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            source.tell(number)
            dest.tell(number)
        source.wait_status(notice_of("pages have yet to be sent: about"))
        moved, there = source.end(), dest.end()
    assert moved.exit_code == 0, moved.stderr
    assert there.exit_code == 0, there.stderr
    assert "which takes about" in there.stderr


def test_a_source_in_a_recovery_says_what_is_at_stake_and_ends_at_the_second_signal() -> None:
    with under_way() as (dest, source):
        dest.process.kill()
        source.wait_phase("reconnecting")
        for _ in range(3):
            source.tell(signal.SIGHUP)  # any number of them is one first signal
        source.wait_status(notice_of("one more signal ends it"))
        ended = source.end_by(signal.SIGTERM)
    assert ended.exit_code == 4, ended.stderr
    assert "pages are missing" in ended.complaint
    assert "the guest is lost" in ended.complaint


def test_a_destination_in_a_recovery_says_what_is_at_stake_and_ends_at_the_second() -> None:
    with under_way() as (dest, source):
        source.process.kill()
        dest.wait_said("the guest waits")
        dest.tell(signal.SIGTERM)
        dest.wait_said("one more signal ends it")
        ended = dest.end_by(signal.SIGINT)
    assert ended.exit_code == 4, ended.stderr
    assert "of 4,096 pages of it are missing" in ended.complaint


@pytest.mark.parametrize("agent", ["source", "dest"])
def test_a_peer_that_is_silent_for_long_is_trouble_too(agent: str) -> None:
    """Its connections stand, and the stall time-out is far away."""
    with under_way() as (dest, source):
        stays, silent = (source, dest) if agent == "source" else (dest, source)
        with standing_still(silent):
            stays.tell(signal.SIGTERM)  # before it can know
            if agent == "source":
                source.wait_status(notice_of("one more signal ends it"))
            else:
                dest.wait_said("one more signal ends it")
            ended = stays.end_by(signal.SIGTERM)
    assert ended.exit_code == 4, ended.stderr
    assert "the guest is lost" in ended.complaint or "is lost" in ended.complaint


def test_a_pair_is_given_up_by_two_signals() -> None:
    options = ("--recover-timeout", "300s", "--inject", "dest/postcopy-20%:stall:300s")
    with running("migrate", "--quiet", *POST_COPY, *options) as pair:
        pair.wait_phase(FOLLOWS)
        children = _descendants(pair.process.pid)
        pair.tell(signal.SIGINT)
        pair.wait_status(notice_of("one more signal ends it"))
        ended = pair.end_by(signal.SIGINT)
    assert ended.exit_code == 4, ended.stderr
    assert "pages are missing" in ended.complaint
    assert all(state_of(pid) in ("", "Z") for pid in children)


def _descendants(pid: int) -> list[int]:
    found = children_of(pid)
    return [each for child in found for each in (child, *_descendants(child))]


# -- another address ------------------------------------------------------------------------------


def test_a_destination_that_comes_back_under_another_address_is_found() -> None:
    """It listens on two; the way to the one that was asked for ends for good."""
    asyncio.run(_moved_address())


async def _moved_address() -> None:
    with destination("--once", "--quiet") as (dest, where):
        port = int(where.rpartition(":")[2])
        async with relay(port) as (wire, relay_port):
            candidates = f"127.0.0.1:9,127.0.0.1:{port}"
            with running(
                *("source", "--to", f"127.0.0.1:{relay_port}", "--quiet", "--json", "-"),
                *(*POST_COPY, "--recover-to", candidates, "--recover-timeout", "20s"),
                *("--inject", "source/postcopy-20%:cut"),
            ) as source:
                await asyncio.to_thread(source.wait_phase, FOLLOWS)
                wire.refuse = True
                ended = await asyncio.to_thread(source.end)
        there = dest.end()
    assert ended.exit_code == 0, ended.stderr
    assert Report.model_validate(ended.json).verified is True
    assert there.exit_code == 0, there.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("other:0", "PORT from 1 to 65535"),
        ("a b", "expected the name of a host"),
        ("one,,two", "is not an address"),
        ("fe80::1", "needs its interface"),
    ],
)
def test_candidates_are_checked_at_once(text: str, words: str) -> None:
    ended = pageferry("migrate", "--memory", "16MiB", "--recover-to", text)
    assert ended.exit_code == 2
    assert words in ended.complaint
    assert "--recover-to" in ended.complaint
