"""A wire that carries nothing any more and says nothing: no reset, no end, both sockets open.

What is left of a host that vanished, or of a firewall that forgot. Both ends must notice by
themselves, within the stall timeout, and end as after a cut.
"""

from __future__ import annotations

import uvloop

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import ConnectionBroken, PageferryError, VerificationError
from pageferry.common.report.schema import Report
from pageferry.source_agent.report.build import make_report
from tests.support.inprocess import Said, listening, session_to
from tests.support.relay import Relay, relay

STALL_S = 1.0
CONFIG = MigrationConfig(
    memory=2**22,
    workload="zipf",
    strategy="post-copy",
    max_bandwidth=10e6,
    warmup=0.02,
    run_after=0.05,
    recover_timeout=10.0,
    stall_timeout=STALL_S,
)


async def silenced(
    config: MigrationConfig, *, at_bytes: int = 2**62, at_answer: bytes = b""
) -> tuple[Report, PageferryError | None, Said]:
    """One migration; all its wires go dead after so many bytes there, or at that answer."""
    total, dead = 0, False
    relays: list[Relay] = []

    def go_dead() -> None:
        nonlocal dead
        if not dead:
            dead = True
            relays[0].silence()

    def there(_sent: int, chunk: bytes) -> None:
        nonlocal total
        total += len(chunk)
        if total >= at_bytes:
            go_dead()

    def back(_sent: int, chunk: bytes) -> None:
        if at_answer and at_answer in chunk:
            go_dead()

    async with (
        listening(stall_s=STALL_S) as (_agent, port, said),
        relay(port, there, back) as (middle, relay_port),
    ):
        relays.append(middle)
        session = session_to(relay_port, config)
        error: PageferryError | None = None
        try:
            await session.run()
        except PageferryError as failure:
            error = failure
        assert dead
        return make_report(session.record), error, said


def test_in_a_round_the_guest_goes_on_at_the_source() -> None:
    config = CONFIG.model_copy(update={"strategy": "pre-copy"})
    report, error, said = uvloop.run(silenced(config, at_bytes=2**20))
    assert isinstance(error, ConnectionBroken)
    assert "for 1 s" in str(error)
    assert report.outcome == "failed"
    assert report.guest.runs_at == "source"
    assert "the guest runs here" not in " ".join(said)


def test_while_the_guest_only_warms_up() -> None:
    config = CONFIG.model_copy(update={"warmup": 60.0})
    report, error, _said = uvloop.run(silenced(config, at_bytes=2000))
    assert isinstance(error, ConnectionBroken)
    assert "said nothing for 1 s" in str(error)
    assert report.guest.runs_at == "source"


def test_the_answer_to_the_commit_is_lost() -> None:
    config = CONFIG.model_copy(update={"strategy": "stop-and-copy", "max_bandwidth": 1e8})
    report, error, said = uvloop.run(silenced(config, at_answer=b"resumed"))
    assert isinstance(error, VerificationError)  # it moved, and could not be verified
    assert report.outcome == "completed"
    assert report.guest.runs_at == "dest"
    assert any("asks what became of it: running" in line for line in said)


def test_post_copy_comes_back_on_new_connections() -> None:
    report, error, _said = uvloop.run(silenced(CONFIG, at_bytes=2**21))
    assert error is None
    assert report.verified is True
    names = [event.event for event in report.events if event.agent == "source"]
    assert "postcopy-paused" in names
    assert "postcopy-recovered" in names
