"""What a destination remembers of sessions that have ended."""

from __future__ import annotations

from typing import Any, cast

from pageferry.common.wire import messages
from pageferry.dest_agent import agent as module
from pageferry.dest_agent.admission import MemoryBudget
from pageferry.dest_agent.agent import DestAgent
from pageferry.dest_agent.guest_keeper import Place


class Ended:
    """As much of a session as is remembered."""

    def __init__(self, number: int, *, kept: bool, said_bye: bool) -> None:
        self.set_up = True
        self.session = f"{number:032x}"
        self.place, self.said_bye = Place(None, "s", MemoryBudget()), said_bye
        self.place.kept = kept

    def answer(self) -> messages.Outcome:
        return messages.Outcome(answer="running", resumed_ns=1)


def remember(agent: DestAgent, ended: Ended) -> None:
    agent._sessions[ended.session] = cast(Any, ended)
    agent._remember(cast(Any, ended))


def test_a_guest_that_was_kept_is_never_forgotten_while_its_source_may_ask() -> None:
    agent = DestAgent(lambda _line: None, lambda _session, _event: None)
    doubtful = Ended(1, kept=True, said_bye=False)
    remember(agent, doubtful)
    for number in range(2, module.MAX_REMEMBERED + 3):
        remember(agent, Ended(number, kept=number % 2 == 0, said_bye=True))
    assert agent.sessions == 0
    assert len(agent._ended) == module.MAX_REMEMBERED
    assert agent._kept[doubtful.session].answer == "running"
    assert agent._refusal(doubtful.session) is not None  # nor is its name taken by another
