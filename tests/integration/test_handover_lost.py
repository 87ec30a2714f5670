"""The connection breaks around the commit: one guest runs, and everybody knows which."""

from __future__ import annotations

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import InDoubtError, PeerRefused, VerificationError
from pageferry.common.wire import header
from pageferry.source_agent.report.build import make_report
from tests.support.inprocess import listening, session_to
from tests.support.relay import Cut, relay
from tests.support.through_relay import moved_through, never
from tests.support.tiers import FULL

CONFIG = MigrationConfig(
    memory=2**22,
    workload="uniform:rate=10MB/s",
    strategy="stop-and-copy",
    warmup=0.01,
    run_after=0.05,
    recover_timeout=1.0,
)


def at_message(kind: bytes, *, forwarded: int) -> Cut:
    """Cut at the first message of that kind, after so many bytes of its frame."""
    seen = False

    def cut(_sent: int, chunk: bytes) -> int | None:
        nonlocal seen
        where = chunk.find(kind)
        if where < 0 or seen:
            return None
        seen = True
        frame = chunk.rfind(header.HEADER.pack(1, 0, 0, 0, 0)[:8], 0, where)
        return max(frame + forwarded, 0)

    return cut


@pytest.mark.parametrize("forwarded", [0, 1, 16, 60])
def test_a_commit_that_never_arrived_whole(forwarded: int) -> None:
    report, error, said, middle = uvloop.run(
        moved_through(CONFIG, at_message(b"commit", forwarded=forwarded))
    )
    assert middle.cuts == 1
    assert isinstance(error, PeerRefused)
    assert report.outcome == "failed"
    assert report.guest.runs_at == "source"
    assert report.verified is None
    assert any("asks what became of it: never" in line for line in said)
    assert "the guest runs here" not in " ".join(said)


def test_a_commit_whose_answer_was_lost() -> None:
    cut_back = at_message(b"resumed", forwarded=0)
    report, error, said, middle = uvloop.run(moved_through(CONFIG, cut_back=cut_back))
    assert middle.cuts == 1
    assert isinstance(error, VerificationError)  # it moved, and could not be verified
    assert report.outcome == "completed"
    assert report.guest.runs_at == "dest"
    assert report.downtime_ms is not None
    assert any("asks what became of it: running" in line for line in said)


@pytest.mark.parametrize(
    ("cut", "cut_back", "runs_there"),
    [
        (at_message(b"commit", forwarded=0), never, False),
        (never, at_message(b"resumed", forwarded=0), True),
    ],
    ids=["before the commit", "after it"],
)
def test_nobody_can_be_asked(cut: Cut, cut_back: Cut, runs_there: bool) -> None:
    report, error, said, _middle = uvloop.run(
        moved_through(CONFIG, cut, cut_back=cut_back, deaf=True)
    )
    assert isinstance(error, InDoubtError)
    assert error.exit_code == 4
    assert report.outcome == "in-doubt"
    assert report.guest.runs_at == "unknown"
    assert any("the guest runs here" in line for line in said) == runs_there


def test_another_host_that_answers_decides_nothing() -> None:
    """The address leads elsewhere by the time of the question: who knows nothing proves nothing."""

    async def scenario() -> None:
        lost = at_message(b"resumed", forwarded=0)

        def cut_back(sent: int, chunk: bytes) -> int | None:
            limit = lost(sent, chunk)
            if limit is not None:
                middle._port = elsewhere
            return limit

        async with (
            listening() as (_first, port, said),
            listening() as (other, elsewhere, asked),
            relay(port, never, cut_back) as (middle, relay_port),
        ):
            other._clock = "of another host"
            session = session_to(relay_port, CONFIG)
            with pytest.raises(InDoubtError, match="another host"):
                await session.run()
            assert any("asks what became of it: unknown" in line for line in asked)
            assert any("the guest runs here" in line for line in said)
            assert make_report(session.record).guest.runs_at == "unknown"

    uvloop.run(scenario())


@given(offset=st.integers(0, 5 * 2**20), strategy=st.sampled_from(["pre-copy", "stop-and-copy"]))
@example(offset=16, strategy="pre-copy")  # in the handshake
@example(offset=600, strategy="pre-copy")  # in the setup
@example(offset=2**20, strategy="stop-and-copy")  # in the pages
@example(offset=2**22, strategy="pre-copy")
@example(offset=2**22 + 1000, strategy="stop-and-copy")  # about the last barrier
@settings(max_examples=80 if FULL else 8)
def test_a_connection_cut_anywhere_leaves_one_guest(offset: int, strategy: str) -> None:
    """Whichever connection reaches `offset` bytes first is cut there, once."""
    done = False

    def cut(sent: int, chunk: bytes) -> int | None:
        nonlocal done
        if done or sent + len(chunk) <= offset:
            return None
        done = True
        return offset - sent

    config = CONFIG.model_copy(update={"strategy": strategy})
    report, error, said, _middle = uvloop.run(moved_through(config, cut))
    runs_there = any("the guest runs here" in line for line in said)
    if error is None:
        assert report.verified is True
    assert (report.guest.runs_at == "dest") == runs_there
    assert report.guest.runs_at in ("dest", "source", "nowhere")
    if report.guest.runs_at == "nowhere":  # only where it had not been started yet
        assert not any(event.event == "guest-runs" for event in report.events)
