"""The hand-over: two real ends, long random runs.

Beyond what the exploration in `test_handover` covers: any number of connections at once, whose
messages and questions come arbitrarily late.
"""

from __future__ import annotations

import copy

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pageferry.common import handover
from pageferry.common.errors import LocalProtocolError
from pageferry.common.handover import ANSWERS, TABLE, Event, Handover, Role, State
from tests.support.tiers import FULL, full_only

SOURCE_ACTS = ["start", "pause", "resumed_again", "failure", "cancel"]
DEST_ACTS = ["resumed", "ready", "recovered", "failure", "gave_up"]
LOSSES = ["connection_lost", "gave_up"]


def legal(end: Handover, events: list[str]) -> list[str]:
    """Those that the table has, as it is now: a test may have broken it."""
    return [event for event in events if event in handover.TABLE[end.role, end.state]]


class TwoEnds(RuleBasedStateMachine):
    """Real `Handover` objects. Most runs start just before the commit, where it matters."""

    def __init__(self) -> None:
        super().__init__()
        self.src = Handover("source")
        self.dst: Handover | None = Handover("dest")
        self.to_dst: list[list[str]] = [[]]  # a list a connection, the last one is in use
        self.to_src: list[str] = []
        self.questions = 0
        self.ran = False

    @initialize(at_the_stop=st.sampled_from([True, True, True, False]))
    def get_going(self, at_the_stop: bool) -> None:
        if at_the_stop:
            assert self.dst is not None
            for end, event in zip(
                (self.src, self.dst, self.dst, self.src, self.src),
                ("start", "setup", "ready", "ready", "pause"),
                strict=True,
            ):
                end.step(event)

    def _try(self, end: Handover, event: str) -> bool:
        before = end.state
        try:
            end.step(event)
        except LocalProtocolError:
            assert end.state == before
            return False
        self.ran |= end.role is Role.DEST and end.may_run_guest
        return True

    @precondition(lambda self: any(legal(self.src, SOURCE_ACTS)))
    @rule(data=st.data())
    def source_draws(self, data: st.DataObject) -> None:
        self.source_acts(data.draw(st.sampled_from(legal(self.src, SOURCE_ACTS))))

    def source_acts(self, event: str) -> None:
        if self._try(self.src, event) and event in ("start", "cancel"):
            self.to_dst[-1].append({"start": "setup"}.get(event, event))

    @precondition(lambda self: any(legal(self.src, ["commit_sent"])))
    @rule(post_copy=st.booleans())
    def source_commits(self, post_copy: bool) -> None:
        if self._try(self.src, "postcopy_commit_sent" if post_copy else "commit_sent"):
            self.to_dst[-1].append("postcopy_commit" if post_copy else "commit")

    @precondition(lambda self: any(legal(self.src, LOSSES)))
    @rule(data=st.data())
    def source_loses(self, data: st.DataObject) -> None:
        self._try(self.src, data.draw(st.sampled_from(legal(self.src, LOSSES))))
        self.to_src.clear()

    @precondition(lambda self: self.src.state == "postcopy-paused" and self.dst is not None)
    @rule()
    def source_reconnects(self) -> None:
        self.src.step("recover")
        self.to_dst.append(["recover"])
        self.to_src.clear()

    @precondition(lambda self: self.src.state in ("device", "postcopy-device"))
    @rule()
    def source_asks(self) -> None:
        self.questions += 1

    @precondition(lambda self: self.to_src)
    @rule()
    def source_hears(self) -> None:
        if self._try(self.src, self.to_src.pop(0)) and self.src.state == "postcopy-active":
            self.to_dst[-1].append("complete")

    @precondition(lambda self: self.questions)
    @rule(answer_arrives=st.booleans())
    def question_arrives(self, answer_arrives: bool) -> None:
        self.questions -= 1
        answer = "unknown" if self.dst is None else self.dst.query()
        if answer_arrives:
            self._try(self.src, answer)

    @precondition(lambda self: self.dst is not None and any(self.to_dst))
    @rule(data=st.data())
    def dest_hears(self, data: st.DataObject) -> None:
        assert self.dst is not None
        queue = data.draw(st.sampled_from([queue for queue in self.to_dst if queue]))
        message = queue.pop(0)
        if self._try(self.dst, message) and self.dst.finished:
            self.to_src.append("complete")

    @precondition(lambda self: self.dst is not None and any(legal(self.dst, DEST_ACTS)))
    @rule(data=st.data())
    def dest_acts(self, data: st.DataObject) -> None:
        assert self.dst is not None
        before = self.dst.state
        event = data.draw(st.sampled_from(legal(self.dst, DEST_ACTS)))
        if not self._try(self.dst, event) or self.dst.state == before:
            return
        if event in ("ready", "resumed", "recovered"):
            self.to_src.append(event)
        elif ANSWERS.get(self.dst.state) == "never":
            self.to_src.append("never")

    @precondition(lambda self: self.dst is not None and any(legal(self.dst, ["connection_lost"])))
    @rule()
    def dest_loses(self) -> None:
        assert self.dst is not None
        self._try(self.dst, "connection_lost")

    @precondition(lambda self: self.dst is not None)
    @rule()
    def dest_restarts(self) -> None:
        self.dst = None
        self.to_dst = [[]]  # the connections have died with the process

    @invariant()
    def never_two(self) -> None:
        assert not (self.src.may_run_guest and self.dst is not None and self.dst.may_run_guest)

    @invariant()
    def never_is_true(self) -> None:
        if self.src.state in ("failed", "cancelled"):
            assert not self.ran


TwoEnds.TestCase.settings = settings(
    max_examples=300 if FULL else 100, stateful_step_count=40, deadline=None
)
TestTwoEnds = TwoEnds.TestCase


@pytest.mark.timeout(400)  # a search that is all computing, on a machine that may be busy
@pytest.mark.parametrize(
    ("role", "state", "event", "to"),
    [
        pytest.param(
            *(Role.SOURCE, State.DEVICE, Event.CANCEL, State.CANCELLED),
            marks=full_only,  # a search of half a minute
        ),
        (Role.SOURCE, State.DEVICE, Event.CONNECTION_LOST, State.FAILED),
    ],
)
def test_the_random_runs_notice_a_broken_table(
    monkeypatch: pytest.MonkeyPatch, role: Role, state: State, event: Event, to: State
) -> None:
    broken = copy.deepcopy(TABLE)
    broken[role, state][event] = to
    monkeypatch.setattr(handover, "TABLE", broken)
    quick = settings(
        max_examples=20_000,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        derandomize=True,  # whether a search finds it must not be chance
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(TwoEnds, settings=quick)
