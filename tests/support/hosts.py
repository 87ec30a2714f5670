"""Two hosts as processes, asked over their control sockets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from pageferry.host import messages as m
from pageferry.host.control_client import ControlClient
from tests.support.harness import Agent, agent


@dataclass(frozen=True)
class RunningHost:
    """A host process, its port and its control socket."""

    agent: Agent
    port: int
    control: Path

    async def ask(self, request: Any) -> Any:
        return await ControlClient(self.control).ask(request)

    async def guests(self) -> dict[str, str]:
        """State by name."""
        listed: m.Listed = await self.ask(m.List())
        return {guest.name: guest.state for guest in listed.guests}

    async def quiet(self, seconds: float = 30.0) -> None:
        """Until no migration comes in any more."""
        deadline = time.monotonic() + seconds
        while (listed := await self.ask(m.List())).incoming:
            assert time.monotonic() < deadline, listed

    async def wait_for(self, guest: str, state: str | None, seconds: float = 30.0) -> None:
        """Until the guest is in that state, or (None) is not here."""
        deadline = time.monotonic() + seconds
        while (now := (await self.guests()).get(guest)) != state:
            assert time.monotonic() < deadline, f"guest {guest} is {now}, expected {state}"


@contextlib.contextmanager
def running_host(folder: Path, name: str, *arguments: str) -> Iterator[RunningHost]:
    """Say `--quiet` where more is said than a pipe holds."""
    control = folder / f"{name}.sock"
    options = ("--listen", "127.0.0.1:0", "--control", str(control))
    with agent("host", *options, *arguments) as running:
        said = running.wait_status(lambda key, _value: key == "listening")
        yield RunningHost(running, int(said["port"]), control)


@dataclass(frozen=True)
class Held:
    """What a process holds. rss, size: bytes."""

    rss: int
    size: int
    threads: int
    fds: int


async def held(pid: int) -> Held:
    """The least of some looks: a connection that has just ended is held for a moment longer."""
    looks = []
    for _ in range(20):
        looks.append(_held_now(pid))
        await asyncio.sleep(0.01)
    return Held(*(min(values) for values in zip(*map(astuple, looks), strict=True)))


def _held_now(pid: int) -> Held:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return Held(
        rss=int(status["VmRSS"].split()[0]) * 1024,
        size=int(status["VmSize"].split()[0]) * 1024,
        threads=int(status["Threads"]),
        fds=len(list(Path(f"/proc/{pid}/fd").iterdir())),
    )
