"""A signal at any moment of a command's start ends it with one line of ours, and nothing is left.

Moments are counted from the first line of ours on, when the process has a handler: what comes
before that is the interpreter's own start, which no program can speak for.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.harness import children_of
from tests.support.running import catches, running
from tests.support.tiers import FULL

MOMENTS = 200 if FULL else 1
ASKING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
SMALL = ("--memory", "16MiB", "--max-bandwidth", "4MB/s", "--quiet")
PLAN = """[options]
memory = "16MiB"
max-bandwidth = "4MB/s"
[grid]
seed = [1, 2]
"""


@dataclass(frozen=True)
class Command:
    """spread_s: moments are drawn from so long; codes: how it may end, and did in time or not."""

    arguments: tuple[str, ...]
    spread_s: float = 2.0
    codes: tuple[int, ...] = (130,)


COMMANDS = {
    "migrate": Command(("migrate", *SMALL)),
    "migrate over a relay": Command(("migrate", *SMALL, "--net", "delay=1ms", "--link", "relay")),
    "source": Command(("source", "--to", "127.0.0.1:9", *SMALL), codes=(130, 1)),
    "dest": Command(("dest", "--listen", "127.0.0.1:0")),
    "host": Command(
        ("host", "--listen", "127.0.0.1:0", "--control", "HERE/c", "--boot", "--memory", "16MiB"),
        codes=(130, 4),
    ),
    "move": Command(("move", "--host", "HOST", "--to", "127.0.0.1:9"), 1.5, (130, 1)),
    "compare": Command(("compare", *SMALL, "--strategies", "pre-copy,stop-and-copy")),
    "reproduce": Command(("reproduce", "--quick")),
    "sweep": Command(("sweep", "HERE/plan.toml", "--quiet")),
    "predict": Command(("predict", "--memory", "16MiB", "--measure", "60s")),
    "simulate": Command(("simulate", "--memory", "1TiB"), 1.0, (130, 0)),
    "trace import": Command(("trace", "import", "-", "HERE/t.npz")),
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The control socket of a host with a guest."""
    control = str(tmp_path_factory.mktemp("host") / "host.sock")
    boot = ("--boot", "--guest", "g", "--memory", "16MiB")
    with running("host", "--listen", "127.0.0.1:0", "--control", control, *boot) as one:
        one.wait_said("guest g runs here")
        yield control


def cases() -> Iterator[tuple[str, int]]:
    for name in COMMANDS:
        for number in range(MOMENTS):
            yield name, number


@pytest.mark.parametrize(("name", "number"), list(cases()))
def test_a_signal_at_the_start(
    name: str, number: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rng = random.Random(f"{name} {number}")  # noqa: S311
    command, asks = COMMANDS[name], ASKING[(number + [*COMMANDS].index(name)) % len(ASKING)]
    delay_s = rng.uniform(0, command.spread_s)
    (tmp_path / "plan.toml").write_text(PLAN)
    socket = request.getfixturevalue("host") if name == "move" else ""
    places = {"HERE": str(tmp_path), "HOST": socket}
    arguments = list(command.arguments)
    for word, place in places.items():
        arguments = [text.replace(word, place) for text in arguments]
    status = name in ("migrate", "source", "dest", "compare")
    with running(*arguments, status=status, cwd=tmp_path, stdin=subprocess.PIPE) as one:
        pid = one.process.pid
        deadline = time.monotonic() + 10
        while not catches(pid, signal.SIGTERM) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(delay_s)
        children = [] if one.process.poll() is not None else children_of(pid)
        one.tell(asks)
        ended = one.end()
    assert ended.exit_code in command.codes, (delay_s, asks, ended)
    if ended.exit_code:
        assert ended.complaint == ended.lines[-1], ended.stderr
        assert "KeyboardInterrupt" not in ended.stderr
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, children
        time.sleep(0.02)
    assert {path.name for path in tmp_path.iterdir()} <= {"plan.toml", "plan"}
