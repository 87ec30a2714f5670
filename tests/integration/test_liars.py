"""Whatever a peer says, whenever: one line, and the exit code that the hand-over's state has."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest

from pageferry.common.wire import messages
from tests.support import file_agent, liar
from tests.support.liar import Lie, LyingDestination, LyingSource, lies, others, plain, sample
from tests.support.tiers import FULL
from tests.unit.common.wire.test_messages import EXAMPLES

OPTIONS: Final = (
    *("--memory", "1MiB", "--workload", "idle", "--warmup", "0s", "--run-after", "0s"),
    *("--strategy", "pre-copy", "--max-bandwidth", "unlimited", "--no-verify", "--quiet"),
)
# How a source may end by what it was told at that step. 0: what it was told may be.
AT_HOME: Final = {0: "", 1: "the guest goes on at the source|no guest had been started"}
GONE: Final = {0: "", 3: "the guest has moved to the destination"}
ENDS: Final = {
    "hello": AT_HOME,
    "setup": AT_HOME,
    "round": AT_HOME,
    "commit": GONE,
    "finish": GONE,
}
# A destination that says so in answer to the commit will not run the guest: it is believed.
NEVER: Final = {1: "the guest goes on at the source"}
DUE: Final = {
    "hello": "welcome",
    "setup": "ready",
    "round": "round-done",
    "commit": "resumed",
    "finish": "finished",
}
OF_KIND: Final[dict[str, messages.Message]] = {example.kind: example for example in EXAMPLES}


def _all_of_a_destination() -> list[Lie]:
    """1,871, of which 20 are told by default and 500 in the full run."""
    out: list[Lie] = []
    for step, kind in DUE.items():
        out += [*lies(step, plain(OF_KIND[kind])), *others(step)]
    return out


def _all_of_a_source() -> list[Lie]:
    """1,017, of which 60 are told by default and 600 in the full run."""
    due: dict[str, list[Any]] = {
        "hello": [LyingSource(0, None)._hello("control")],
        "setup": [liar.setup()],
        "before-pages": [],
        "commit": [liar.commit()],
        "running": [],
    }
    out: list[Lie] = []
    for step, true in due.items():
        out += others(step)
        for message in true:
            out += lies(step, plain(message))
    return out


def cases(every: list[Lie], n: int, full: int) -> list[Lie]:
    """So many of them by default, and in the full run, which takes some ten minutes of two cores.

    Seeded; first each field, then each value, at each step: see `sample`.
    """
    return sample(every, full if FULL else n)


def endings(lie: Lie) -> dict[int, str]:
    """How a source that was told this may end: by exit code, what it may say of the guest."""
    gave_up = lie.what in ("refuse out of turn", "failed out of turn")
    return NEVER if lie.step == "commit" and gave_up else ENDS[lie.step]


def ends(port: int, *options: str) -> tuple[int, str]:
    """Of a source that meets a destination at that port: its exit code, and what it says."""
    with tempfile.TemporaryDirectory() as name:
        to = "--to", f"127.0.0.1:{port}"
        source = file_agent.Agent(
            Path(name), "source", "source", *to, *options, "--json", "-", agent=False
        )
        try:
            return source.end(liar.LIMIT_S), source.read("err")
        finally:
            source.kill()


def test_an_honest_one_is_believed() -> None:
    with LyingDestination(None) as destination:
        code, said = ends(destination.port, *OPTIONS)
    assert code == 0, said
    assert said == ""


@pytest.mark.parametrize("lie", cases(_all_of_a_destination(), 20, 500), ids=lambda lie: lie.what)
def test_a_source_whose_destination_lies(lie: Lie) -> None:
    with LyingDestination(lie) as destination:
        code, said = ends(destination.port, *OPTIONS)
    assert "Traceback" not in said, said
    assert code in endings(lie), (code, said)
    lines = [line for line in said.splitlines() if line.startswith("pageferry: ")]
    assert len(lines) == (code != 0), said
    assert not code or any(words in lines[-1] for words in endings(lie)[code].split("|")), said


def test_a_destination_whose_sources_lie() -> None:
    """One agent for all of them: each ends alone, and an honest one is served afterwards."""
    with tempfile.TemporaryDirectory() as name:
        dest = file_agent.Agent(Path(name), "dest", "dest", "--listen", "127.0.0.1:0")
        try:
            port = dest.wait_status("listening")["port"]
            honest = LyingSource(port, None)
            for lie in cases(_all_of_a_source(), 60, 600):
                source = LyingSource(port, lie)
                asyncio.run(source.run())
                assert dest.exit_code is None, (lie, dest.read("err"))
            asyncio.run(honest.run())
            assert honest.answers[-1] == "finished", dest.read("err")[-2000:]
            assert "Traceback" not in dest.read("err")
            assert "unexpected" not in dest.read("err")
        finally:
            dest.terminate()
