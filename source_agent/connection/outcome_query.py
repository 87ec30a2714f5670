"""After a commit whose answer was lost: asking the destination what became of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from pageferry.common.clock import ClockSample
from pageferry.common.errors import (
    ConnectionBroken,
    PeerRefused,
    PeerUnreachable,
    RemoteProtocolError,
)
from pageferry.common.wire import messages
from pageferry.common.wire.connecting import connect
from pageferry.common.wire.link_policy import DEFAULT, LinkPolicy

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class OutcomeAnswer:
    """What was answered.

    Attributes:
        outcome: The answer.
        sample: Of the clock of whoever answered; None where it did not tell what that reads.
    """

    outcome: messages.CommitOutcome
    sample: ClockSample | None

    @classmethod
    def to(cls, outcome: messages.CommitOutcome, asked_ns: int) -> OutcomeAnswer:
        """Make an answer of an outcome that has just come.

        Args:
            outcome: What came.
            asked_ns: CLOCK_MONOTONIC ns, before the question left.

        Returns:
            The outcome with a sample of its clock.
        """
        peer_ns, now_ns = outcome.peer_ns, time.monotonic_ns()
        return cls(outcome, None if peer_ns is None else ClockSample(asked_ns, peer_ns, now_ns))


async def ask_outcome(
    next_address: Callable[[], tuple[str, int]],
    hello: messages.Hello,
    timeout_s: float,
    link: LinkPolicy = DEFAULT,
    *,
    is_final: Callable[[OutcomeAnswer], bool] = lambda _answer: True,
) -> OutcomeAnswer | None:
    """Ask over new connections until there is an answer.

    Args:
        next_address: Says where to ask, each time anew.
        hello: The question: a hello of role `query`.
        timeout_s: How many seconds to ask.
        link: Its `stall_s` says how long one connection may be silent before another one is tried.
        is_final: Whether nobody else need be asked. An answer that is not final is returned after
            `timeout_s`, if it was the last thing that came.

    Returns:
        The answer; None: there was none in time.
    """
    deadline = time.monotonic() + timeout_s
    pause = FIRST_PAUSE_S
    while True:
        answer = None
        try:
            t0 = time.monotonic_ns()
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                connection = await connect(*next_address(), hello, link)
                try:
                    answer = OutcomeAnswer.to(await connection.expect(messages.CommitOutcome), t0)
                finally:
                    connection.close()
        except (ConnectionBroken, PeerUnreachable, PeerRefused, RemoteProtocolError, TimeoutError):
            pass
        left = deadline - time.monotonic()
        if left <= 0 or (answer is not None and is_final(answer)):
            return answer
        await asyncio.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE_S)
