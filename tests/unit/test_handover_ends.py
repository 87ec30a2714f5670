"""The hand-over: two real ends, long random runs.

Beyond what the exploration in `test_handover` covers: any number of connections at once, whose
messages and questions come arbitrarily late.
"""

from __future__ import annotations

import copy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common import handover
from common.errors import LocalProtocolError
from common.handover import ANSWERS, TABLE, Event, Handover, Role, State


class TwoEnds(RuleBasedStateMachine):
    """Real `Handover` objects; what is legal is asked of them by trying."""

    def __init__(self) -> None:
        super().__init__()
        self.src = Handover("source")
        self.dst: Handover | None = Handover("dest")
        self.to_dst: list[list[str]] = [[]]  # a list a connection, the last one is in use
        self.to_src: list[str] = []
        self.questions = 0
        self.ran = False

    def _try(self, end: Handover, event: str) -> bool:
        before = end.state
        try:
            end.step(event)
        except LocalProtocolError:
            assert end.state == before
            return False
        self.ran |= end.role is Role.DEST and end.may_run_guest
        return True

    @rule(event=st.sampled_from(["start", "pause", "resumed_again", "failure", "cancel"]))
    def source_acts(self, event: str) -> None:
        if self._try(self.src, event) and event in ("start", "cancel"):
            self.to_dst[-1].append({"start": "setup"}.get(event, event))

    @rule(post_copy=st.booleans())
    def source_commits(self, post_copy: bool) -> None:
        if self._try(self.src, "postcopy_commit_sent" if post_copy else "commit_sent"):
            self.to_dst[-1].append("postcopy_commit" if post_copy else "commit")

    @rule(event=st.sampled_from(["connection_lost", "gave_up"]))
    def source_loses(self, event: str) -> None:
        self._try(self.src, event)
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

    @precondition(lambda self: self.dst is not None)
    @rule(event=st.sampled_from(["ready", "resumed", "recovered", "failure", "gave_up"]))
    def dest_acts(self, event: str) -> None:
        assert self.dst is not None
        before = self.dst.state
        if not self._try(self.dst, event) or self.dst.state == before:
            return
        if event in ("ready", "resumed", "recovered"):
            self.to_src.append(event)
        elif ANSWERS.get(self.dst.state) == "never":
            self.to_src.append("never")

    @precondition(lambda self: self.dst is not None)
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


TwoEnds.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestTwoEnds = TwoEnds.TestCase


def test_the_random_runs_notice_a_broken_table(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = copy.deepcopy(TABLE)
    broken[Role.SOURCE, State.DEVICE][Event.CANCEL] = State.CANCELLED
    monkeypatch.setattr(handover, "TABLE", broken)
    ends = TwoEnds()
    ends.source_acts("start")
    ends.src.step("ready")
    ends.source_acts("pause")
    ends.source_commits(False)
    ends.source_acts("cancel")
    assert ends.dst is not None
    for event in ("setup", "ready", "commit"):
        ends.dst.step(event)
    with pytest.raises(AssertionError):
        ends.never_two()
