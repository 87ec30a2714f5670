"""After a commit whose answer was lost: asking the destination what became of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from pageferry.common.clock import Sample
from pageferry.common.errors import (
    ConnectionBroken,
    PeerRefused,
    PeerUnreachable,
    RemoteProtocolError,
)
from pageferry.common.wire import channel, messages
from pageferry.common.wire.link_policy import DEFAULT, LinkPolicy

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. sample: of the clock of who answered, where it told what that reads."""

    outcome: messages.Outcome
    sample: Sample | None

    @classmethod
    def to(cls, outcome: messages.Outcome, asked_ns: int) -> Answer:
        """That has just come. asked_ns: CLOCK_MONOTONIC, before the question left."""
        peer_ns, now_ns = outcome.peer_ns, time.monotonic_ns()
        return cls(outcome, None if peer_ns is None else Sample(asked_ns, peer_ns, now_ns))


async def ask_outcome(
    next_address: Callable[[], tuple[str, int]],
    hello: messages.Hello,
    timeout_s: float,
    link: LinkPolicy = DEFAULT,
    *,
    is_final: Callable[[Answer], bool] = lambda _answer: True,
) -> Answer | None:
    """Ask with this hello over new connections until there is an answer; None after `timeout_s`.

    Args:
        next_address: where, each time anew.
        link: its `stall_s` is how long one connection may be silent before another one is tried.
        is_final: whether nobody else need be asked; an answer that was not is given after
            `timeout_s` if it was the last thing that came.
    """
    deadline = time.monotonic() + timeout_s
    pause = FIRST_PAUSE_S
    while True:
        answer = None
        try:
            t0 = time.monotonic_ns()
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                connection = await channel.connect(*next_address(), hello, link)
                try:
                    answer = Answer.to(await connection.expect(messages.Outcome), t0)
                finally:
                    connection.close()
        except (ConnectionBroken, PeerUnreachable, PeerRefused, RemoteProtocolError, TimeoutError):
            pass
        left = deadline - time.monotonic()
        if left <= 0 or (answer is not None and is_final(answer)):
            return answer
        await asyncio.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE_S)
