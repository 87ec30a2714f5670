"""A lie while pages are missing, in a recovery or in an answer costs a connection, and no guest."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

import pytest

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.wire import messages
from tests.integration.test_liars import OF_KIND, cases, ends
from tests.support import file_agent
from tests.support.liar import Lie, lies, others, plain
from tests.support.liar_postcopy import LyingAfterwards, LyingInPostcopy

OPTIONS: Final = (
    *("--memory", "1MiB", "--workload", "idle", "--warmup", "0s", "--run-after", "0s"),
    *("--max-bandwidth", "unlimited", "--no-verify", "--quiet", "--recover-timeout", "10s"),
)
MOVED: Final = "the guest has moved to the destination"
# What a peer may say that is true in itself, and ends it: it has the guest no more, or never had.
LAST_WORDS: Final = ("outcome", "refuse", "failed")


def _all_of_a_destination() -> list[Lie]:
    """617, of which 8 are told by default and 400 in the full run."""
    due = {"postcopy": "complete", "recover": "welcome", "resync": "resync", "query": "outcome"}
    out: list[Lie] = []
    for step, kind in due.items():
        out += [*lies(step, plain(OF_KIND[kind])), *others(step)]
    return [*out, *lies("recover", plain(OF_KIND["outcome"]))]


def _all_of_a_source() -> list[Lie]:
    """253, of which 12 are told by default."""
    hello = LyingInPostcopy(0, None, 1).hello("recover", 1)
    said = [*others("postcopy"), *others("joined")]
    return [
        *(lie for lie in said if lie.what != "ping out of turn"),  # which may always be said
        *others("recover"),
        *lies("recover", plain(hello)),
        *lies("postcopy", plain(OF_KIND["bye"])),
    ]


def _may_end_it(lie: Lie) -> bool:
    try:
        return messages.decode_message(lie.body).kind in LAST_WORDS
    except RemoteProtocolError:
        return False


def _ends(destination: LyingAfterwards, strategy: str) -> tuple[int, str]:
    return ends(destination.port, "--strategy", strategy, *OPTIONS)


@pytest.mark.parametrize("step", ["postcopy", "recover", "query"])
def test_one_that_says_what_is_due_is_believed(step: str) -> None:
    true = Lie(step, "the truth", messages.encode_message(OF_KIND["pong"]))
    with LyingAfterwards(true) as destination:
        destination._lie = None
        code, said = _ends(destination, "pre-copy" if step == "query" else "post-copy")
    assert code == (3 if step == "query" else 0), said  # a result is not to be had there


@pytest.mark.parametrize("lie", cases(_all_of_a_destination(), 8, 400), ids=lambda lie: lie.what)
def test_a_source_whose_destination_lies_once(lie: Lie) -> None:
    with LyingAfterwards(lie) as destination:
        code, said = _ends(destination, "pre-copy" if lie.step == "query" else "post-copy")
    assert "Traceback" not in said, said
    lines = [line for line in said.splitlines() if line.startswith("pageferry: ")]
    assert len(lines) == (code != 0), said
    if not _may_end_it(lie):
        assert code in ((3,) if lie.step == "query" else (0, 3)), (code, said)
    assert code in (0, 1, 3, 4), (code, said)
    assert code != 3 or MOVED in lines[-1], said
    assert code != 1 or lie.step == "query", said  # who runs it there has said so before


def test_a_destination_whose_sources_lie_in_post_copy() -> None:
    """Each comes back and brings what is missing: no guest is lost by what was said."""
    with tempfile.TemporaryDirectory() as name:
        limits = "--max-sessions", "64"
        dest = file_agent.Agent(Path(name), "dest", "dest", "--listen", "127.0.0.1:0", *limits)
        try:
            port = dest.wait_status("listening")["port"]
            for number, lie in enumerate(cases(_all_of_a_source(), 12, 253)):
                source = LyingInPostcopy(port, lie, number)
                asyncio.run(source.run())
                assert dest.exit_code is None, (lie, dest.read("err"))
                assert source.answers[-1:] == ["finished"], (lie, source.answers, dest.read("err"))
            assert "Traceback" not in dest.read("err")
            assert "unexpected" not in dest.read("err")
        finally:
            dest.terminate()
