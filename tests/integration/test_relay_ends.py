"""A `migrate --link relay` that is killed or told to end under way, at moments drawn by chance."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.support.harness import children_of, neglected
from tests.support.running import running
from tests.support.tiers import FULL

MOMENTS = 60 if FULL else 6
NUMBERS = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]
STRATEGIES = ["pre-copy", "post-copy", "hybrid"]
UNDER_WAY_S = 2.0  # 16 MiB at 10 MB/s take that, and a little more with what is dirtied
GONE_S = 20.0  # agents whose supervisor was killed see through what they can
WORDS = {
    0: "",
    3: "has moved to the destination, and could not be verified",
    130: "goes on at the source",
}
RELAYED = (
    *("migrate", "--link", "relay", "--net", "delay=1ms,rate=80mbit", "--memory", "16MiB"),
    *("--warmup", "100ms", "--run-after", "100ms", "--progress", "none"),
    *("--workload", "uniform:working-set=100%,rate=1MB/s"),
)


def within(folder: Path) -> list[int]:
    """Processes whose current folder this is, as children inherit it; no zombies."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdecimal() and os.readlink(path / "cwd") == str(folder):
                found.append(int(path.name))
    return found


def errors_of(pids: list[int]) -> list[int]:
    """Descriptors of what agents say on standard error, which outlive them.

    The relay's process has that of its parent.
    """
    paths = [f"/proc/{pid}/fd/2" for pid in pids]
    return [os.open(path, os.O_RDONLY) for path in paths if "memfd" in os.readlink(path)]


def read_away(fd: int) -> str:
    """All that has been written there."""
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read().decode()


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_nothing_is_left_and_nothing_is_printed(moment: int, tmp_path: Path) -> None:
    rng = random.Random(moment)  # noqa: S311
    number, strategy = NUMBERS[moment % 3], rng.choice(STRATEGIES)
    delay_s = rng.uniform(0, UNDER_WAY_S)
    folder = tmp_path.resolve()
    with running(*RELAYED, "--strategy", strategy, cwd=folder) as pair:
        pair.wait_status(lambda key, value: key == "status" and value["elapsed_s"] > 0)
        children = children_of(pair.process.pid)
        agents = errors_of(children)
        assert len(agents) == 2
        assert {pair.process.pid, *children} <= {*within(folder)}  # they would be found
        time.sleep(delay_s)
        pair.tell(number)
        ended = pair.end(GONE_S)
    deadline = time.monotonic() + GONE_S
    while left := within(folder):
        assert time.monotonic() < deadline, (left, number, strategy, delay_s)
        time.sleep(0.02)
    said = [ended.stderr, *map(read_away, agents)]
    for text in said:
        assert "Traceback" not in text, (number, strategy, delay_s, said)
        assert neglected(text) is None, (number, strategy, delay_s, said)
    if number is signal.SIGKILL:
        assert ended.exit_code in (-number, 0), (strategy, delay_s, said)
        return
    assert ended.exit_code in WORDS, (number, strategy, delay_s, said)
    if words := WORDS[ended.exit_code]:
        assert f"cancelled by the user: the guest {words}" in ended.complaint
