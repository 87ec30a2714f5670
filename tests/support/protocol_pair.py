"""Both ends' protocol in memory: no socket, no thread, no clock; whatever may happen, does.

`SourceProtocol` and `DestProtocol` are the agents' own. What drives them is here, and does at once
what the agents need sockets and guests for. Each attempt has a control connection, and a bulk one
whose barriers and pages travel on their own; both keep their order, and break with what is on them.
Nobody tells an end that a connection is broken before the schedule says that it notices.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any, Final

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import (
    CancelledByUser,
    ConnectionBroken,
    InDoubtError,
    InternalError,
    PageferryError,
    PeerRefused,
    RemoteProtocolError,
)
from pageferry.common.handover import State
from pageferry.common.recovery import Proof, RecoveryPhase
from pageferry.common.wire import messages
from pageferry.common.wire.results import WireBeats
from pageferry.dest_agent.protocol import DestProtocol, PrepareGuest, SourceSaidBye
from pageferry.source_agent.protocol import NextStep, SourceProtocol

LIMIT_S: Final = 10.0
PAGES: Final = 3  # that are missing after a switch
STEPS: Final = 400

SETUP: Final = messages.Setup(
    guest=GuestConfig(memory=16 * 2**20),
    channels=1,
    congestion="cubic",
    run_after=0.0,
    verify=False,
    checksum=True,
    vcpu_nice=0,
    postcopy=messages.PostcopySetup(
        faults="software", prepage=0, recover_timeout=LIMIT_S, trace_faults=False
    ),
)
FINISHED: Final = messages.Finished(
    steps=[1],
    digest=None,
    check=None,
    cpu_s=0.0,
    received_bytes=0,
    beats=[WireBeats(first_ns=0, last_ns=0, gap_ns=0, gap_start_ns=0)],
    cache=None,
    samples=[],
    events=[],
)


@dataclass
class Attempt:
    """The connections of one attempt: what is on its way, either way."""

    number: int
    to_dest: deque[Any] = field(default_factory=deque)
    to_source: deque[Any] = field(default_factory=deque)
    bulk: deque[Any] = field(default_factory=deque)  # to the destination: barriers and pages
    broken: bool = False
    noticed: set[str] = field(default_factory=set)  # by whom

    def cut(self) -> None:
        """Break it, with what is on it."""
        self.broken = True
        for each in (self.to_dest, self.to_source, self.bulk):
            each.clear()


class Source:
    """A source that does at once whatever it has to."""

    def __init__(self, *, rounds: int, post_copy: bool) -> None:
        self.protocol = SourceProtocol(LIMIT_S)
        self.rounds, self.post_copy = rounds, post_copy
        self.sent = 0  # rounds
        self.acknowledged = True
        self.runs = True
        self.paused = self.committed = self.said_bye = False
        self.ended: str | None = None
        self.asks = False
        self.why: PageferryError = ConnectionBroken("it broke")

    @property
    def state(self) -> State:
        return self.protocol.handover.state

    def end(self, how: str) -> None:
        self.ended = how
        if self.protocol.handover.may_run_guest:
            self.runs = True


class Dest:
    """A destination that does at once whatever it has to."""

    def __init__(self) -> None:
        self.protocol = DestProtocol(LIMIT_S)
        self.attempt = 0  # that it knows connections of
        self.runs = self.has_run = False
        self.setup = self.ready = False
        self.missing = 0
        self.finished = self.said_bye = False
        self.was_asked = False  # and has not been told of it yet
        self.ended: str | None = None

    @property
    def state(self) -> State:
        return self.protocol.handover.state


class World:
    """One schedule. seen: how often what came about."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        chance = self.random.random
        self.source = Source(rounds=self.random.randrange(3), post_copy=chance() < 0.6)
        self.dest = Dest()
        self.attempts = [Attempt(0)]
        # Answers on their way; None: asked.
        self.questions: list[messages.CommitOutcome | None] = []
        self.now_s = 0.0
        # From which step on each may happen; in order, so that the last ones come first.
        self.cuts = sorted((self._moment() for _ in range(self.random.randrange(8))), reverse=True)
        self.cancels = self._moment() if chance() < 0.2 else None
        self.dest_fails = self._moment() if chance() < 0.15 else None
        self.resume_fails = chance() < 0.05
        self.seen: Counter[str] = Counter()
        # Every schedule has its own habits: what is rare in one is usual in another.
        self.weights: defaultdict[str, float] = defaultdict(
            lambda: self.random.choice((0.05, 1.0, 1.0, 10.0))
        )
        self.source.protocol.connect()
        self.attempts[0].to_dest.append(SETUP)

    def _moment(self) -> int:
        return self.random.randrange(70)

    def _due(self, moment: int | None) -> bool:
        return moment is not None and self.seen.total() >= moment

    # -- playing --------------------------------------------------------------------------------

    def play(self) -> None:
        """Until both have ended, or nothing is left that could happen."""
        for _ in range(STEPS):
            happenings = self.possible()
            if not happenings:
                return
            weights = [self.weights[each] for each in happenings]
            [name] = self.random.choices(happenings, weights)
            self.seen[name] += 1
            self.now_s += self.random.random() * 0.2
            getattr(self, f"do_{name}")()
            self.check()

    def check(self) -> None:
        """Never two guests."""
        assert not (self.source.runs and self.dest.runs), (self.source.state, self.dest.state)
        if self.source.runs:
            assert self.source.protocol.handover.may_run_guest
        if self.dest.runs:
            assert self.dest.protocol.handover.may_run_guest

    def possible(self) -> list[str]:
        checks = {
            "deliver_to_dest": any(a.to_dest for a in self._heard_by_dest()),
            "deliver_to_source": bool(self.now.to_source) and self.source.ended is None,
            "deliver_bulk": any(a.bulk for a in self._heard_by_dest()),
            "source_acts": self._source_can_act(),
            "dest_acts": self._dest_can_act(),
            "source_notices": self._unnoticed("source") and self.source.ended is None,
            "dest_notices": self._unnoticed("dest") and self.dest.ended is None,
            "cut": bool(self.cuts)
            and self._due(self.cuts[-1])
            and not self.now.broken
            and self.source.ended is None,
            "cancel": self._due(self.cancels) and not self.source.protocol.handover.commit_sent,
            "dest_gives_up": self._due(self.dest_fails) and self.dest.ready and not self.dest.runs,
            "dest_is_told": self.dest.was_asked and self.dest.ended is None,
            "ask": self.source.asks and not self.questions,
            "question": None in self.questions,
            "answer": any(each is not None for each in self.questions),
            "dial": self.source.protocol.recovery.phase is RecoveryPhase.BROKEN
            and self.source.ended is None
            and not self.source.asks,
            "stand": self._rejoins(RecoveryPhase.JOINING),
            "prove": self._rejoins(RecoveryPhase.PROVING),
            "time_passes": self.source.protocol.recovery.out or self.dest.protocol.recovery.out,
        }
        return [name for name, is_so in checks.items() if is_so and self._alive(name)]

    def _rejoins(self, phase: RecoveryPhase) -> bool:
        standing = not self.now.broken and self.source.ended is None
        return standing and self.source.protocol.recovery.phase is phase

    def _alive(self, name: str) -> bool:
        if name in ("cancel",):
            return self.source.ended is None
        if name in ("dest_gives_up", "dest_acts"):
            return self.dest.ended is None
        return True

    @property
    def now(self) -> Attempt:
        """The newest attempt."""
        return self.attempts[-1]

    def _heard_by_dest(self) -> list[Attempt]:
        if self.dest.ended is not None:
            return []
        return [a for a in self.attempts if a.number == self.dest.attempt and not a.broken]

    def _unnoticed(self, who: str) -> bool:
        number = self.source.protocol.attempt if who == "source" else self.dest.attempt
        return any(a.number == number and a.broken and who not in a.noticed for a in self.attempts)

    # -- the network ----------------------------------------------------------------------------

    def do_cut(self) -> None:
        self.cuts.pop()
        self.now.cut()

    def do_deliver_to_dest(self) -> None:
        attempt = next(a for a in self._heard_by_dest() if a.to_dest)
        message, dest = attempt.to_dest.popleft(), self.dest
        try:
            happened = dest.protocol.receive(message)
        except CancelledByUser as error:
            self._dest_ends(error)
            return
        if isinstance(happened, PrepareGuest):
            dest.setup = True
        elif isinstance(happened, SourceSaidBye):
            dest.said_bye, dest.ended = True, "said goodbye"

    def do_deliver_bulk(self) -> None:
        attempt = next(a for a in self._heard_by_dest() if a.bulk)
        item, dest = attempt.bulk.popleft(), self.dest
        if item == "page":
            if dest.runs:
                dest.missing = max(dest.missing - 1, 0)
                dest.protocol.proved(attempt.number, Proof.PAGE)
            return
        attempt.to_source.append(dest.protocol.barrier(item, 1))

    def do_deliver_to_source(self) -> None:
        source, message = self.source, self.now.to_source.popleft()
        if isinstance(message, messages.Failed | messages.Refuse):
            self._source_lost(PeerRefused("the destination gave up"))
            return
        source.protocol.receive(message)
        match message:
            case messages.Ready():
                source.protocol.ready()
            case messages.RoundDone():
                source.acknowledged = True
            case messages.Resumed() if source.post_copy:
                self.now.bulk.extend(["page"] * PAGES)
            case messages.Resync():
                self._rejoined(all_there=not any(message.missing))
            case messages.Finished():
                self.now.to_dest.append(messages.Bye())
                source.said_bye = True
                source.end("moved")

    def _rejoined(self, *, all_there: bool) -> None:
        source = self.source
        attempt = source.protocol.attempt
        source.protocol.joined(attempt)
        if all_there:
            source.protocol.stands(attempt)
            source.protocol.proved(attempt, Proof.NOTHING)

    def do_stand(self) -> None:
        """All connections of the attempt do, at both ends."""
        attempt = self.source.protocol.attempt
        self.source.protocol.stands(attempt)
        self.dest.protocol.stands(attempt)
        self.now.bulk.extend(["page"] * PAGES)

    def do_prove(self) -> None:
        """Probes have been answered."""
        for end in (self.source, self.dest):
            for proof in self.random.sample([Proof.CONTROL, Proof.URGENT], 2):
                end.protocol.proved(self.source.protocol.attempt, proof)

    # -- the source -----------------------------------------------------------------------------

    def _source_can_act(self) -> bool:
        source = self.source
        active = source.state in (State.ACTIVE, State.PRE_SWITCHOVER) and source.ended is None
        return active and source.acknowledged and not self._unnoticed("source")

    def do_source_acts(self) -> None:
        """The next round, the pause, or the commit."""
        source = self.source
        if source.sent < source.rounds:
            source.sent += 1
            source.acknowledged = False
            source.protocol.round_sent(source.sent)
            self.now.bulk.append(source.sent)
        elif not source.paused:
            source.paused, source.runs = True, False
            source.protocol.pause()
        else:
            self._commit()

    def _commit(self) -> None:
        source = self.source
        last_round = not source.post_copy
        source.sent += last_round
        commit = messages.Commit(
            barrier=source.sent,
            snapshot={},
            missing=b"\x07" if source.post_copy else None,
        )
        self.now.to_dest.append(source.protocol.commit(commit, last_round=last_round))
        if last_round:
            self.now.bulk.append(source.sent)
        if self.now.broken:
            self.now.cut()
        source.committed = True

    def do_cancel(self) -> None:
        self.cancels = None
        if not self.now.broken:
            self.now.to_dest.append(messages.Cancel(reason="the user"))
        self.source.protocol.go_on_here(cancelled=True)
        self.source.end("cancelled")

    def do_source_notices(self) -> None:
        for attempt in self.attempts:
            attempt.noticed |= {"source"} if attempt.broken else set()
        self._source_lost(ConnectionBroken("it was reset"))

    def _source_lost(self, error: PageferryError) -> None:
        source = self.source
        step = source.protocol.lost(error, self.now_s)
        if step is NextStep.ASK:
            source.asks, source.why = True, error
        elif step is NextStep.GO_ON_HERE:
            source.protocol.go_on_here(cancelled=False)
            source.end("goes on here")
        elif step is NextStep.NOTHING:
            source.end("moved, unverified")

    def do_ask(self) -> None:
        self.questions.append(None)

    def do_question(self) -> None:
        """It has come to the destination."""
        self.questions.remove(None)
        outcome = self.dest.protocol.query()
        if outcome.answer == "never":  # from now on that is so, whatever is still on its way
            assert self.dest.protocol.handover.ended
        self.dest.was_asked |= not self.dest.runs
        self.questions.append(outcome)

    def do_answer(self) -> None:
        outcome = next(each for each in self.questions if each is not None)
        self.questions.remove(outcome)
        source = self.source
        source.asks = False
        try:
            source.protocol.answered(outcome, source.why)
        except PeerRefused:
            if source.protocol.handover.may_run_guest:
                source.end("goes on here, as the destination said")
        else:
            if source.protocol.handover.finished:
                source.end("moved, unverified")

    def do_dial(self) -> None:
        attempt = Attempt(self.source.protocol.dial())
        self.attempts.append(attempt)
        dest = self.dest
        if dest.ended is not None:
            self._ended_there(attempt)
        elif dest.protocol.handover.finished:
            dest.protocol.came_late(attempt.number)
            dest.attempt = attempt.number
            attempt.to_source.append(messages.Resync(missing=b"\0"))
            attempt.to_source.append(messages.Complete(t_ns=1))
            if dest.finished:
                attempt.to_source.append(FINISHED)
        elif dest.protocol.recovery.is_newer(attempt.number) and dest.runs:
            self._offered(attempt)
        else:
            attempt.cut()

    def _offered(self, attempt: Attempt) -> None:
        dest = self.dest
        if dest.protocol.recovery.phase is not RecoveryPhase.BROKEN:
            dest.protocol.broke(dest.protocol.attempt, self.now_s)
        dest.protocol.joined(attempt.number)
        dest.attempt = attempt.number
        attempt.to_source.append(messages.Resync(missing=b"\x07" if dest.missing else b"\0"))

    def _ended_there(self, attempt: Attempt) -> None:
        source, dest = self.source, self.dest
        source.protocol.joined(attempt.number)
        try:
            source.protocol.ended_there(dest.protocol.query())
        except PeerRefused:
            if source.protocol.handover.finished:
                source.end("moved, unverified")
            else:
                source.protocol.gave_up()
                source.end("lost")

    # -- the destination ------------------------------------------------------------------------

    def _dest_can_act(self) -> bool:
        dest = self.dest
        if dest.ended is not None:
            return False
        if dest.setup and not dest.ready:
            return True
        if dest.ready and not dest.runs and dest.protocol.whole_commit is not None:
            return True
        return dest.runs and not dest.finished and not dest.missing

    def do_dest_acts(self) -> None:
        """Ready, carry out the commit, or deliver the result."""
        dest = self.dest
        if not dest.ready:
            dest.ready = True
            self._to_source(messages.Ready())
            dest.protocol.ready()
        elif not dest.runs:
            self._carry_out()
        else:
            if dest.protocol.handover.state is not State.COMPLETED:
                dest.protocol.recovery.settled()
                self._to_source(dest.protocol.complete(1))
            dest.finished = True
            self._to_source(FINISHED)

    def _carry_out(self) -> None:
        dest = self.dest
        commit = dest.protocol.whole_commit
        assert commit is not None
        try:
            dest.protocol.commit()
        except ConnectionBroken as error:
            self._dest_ends(error)
            return
        dest.has_run = True
        if self.resume_fails:  # some of its vCPUs may have begun
            dest.protocol.guest_failed()
            self._dest_ends(InternalError("a vCPU could not be started"))
            return
        dest.runs = True
        dest.missing = PAGES if commit.missing is not None else 0
        self._to_source(dest.protocol.resumed(1))

    def _to_source(self, message: Any) -> None:
        for attempt in self.attempts:
            if attempt.number == self.dest.attempt and not attempt.broken:
                attempt.to_source.append(message)

    def do_dest_notices(self) -> None:
        dest, error = self.dest, ConnectionBroken("it was reset")
        for attempt in self.attempts:
            attempt.noticed |= {"dest"} if attempt.broken else set()
        if not dest.runs:
            self._dest_ends(error)
        elif dest.missing:
            dest.protocol.broke(dest.protocol.attempt, self.now_s)

    def do_dest_is_told(self) -> None:
        """That it has been asked, for which it looks when its turn comes."""
        self.dest.was_asked = False
        if not self.dest.runs:
            self._dest_ends(ConnectionBroken("the source lost this connection and asked"))

    def do_dest_gives_up(self) -> None:
        self.dest_fails = None
        self._dest_ends(RemoteProtocolError("something of ours"))

    def _dest_ends(self, error: PageferryError) -> None:
        message = self.dest.protocol.give_up(error)
        if message is not None:
            self._to_source(message)
        self.dest.ended = str(error)

    # -- time -----------------------------------------------------------------------------------

    def do_time_passes(self) -> None:
        """Until the limit of an outage has passed, at whichever end has one."""
        self.now_s += LIMIT_S + 1
        source, dest = self.source, self.dest
        if dest.protocol.recovery.out and dest.ended is None:
            dest.protocol.gave_up()
            dest.runs, dest.ended = False, "lost"
        if source.asks and None not in self.questions and not self.questions:
            source.asks = False
            try:
                source.protocol.unanswered(source.why, "nobody answers")
            except InDoubtError:
                source.end("in doubt")
        elif source.protocol.recovery.out and source.ended is None and not source.asks:
            source.protocol.gave_up()
            source.end("lost")
