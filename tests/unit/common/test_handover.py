"""The hand-over: the table as such, and two ends of it against one another over a bad network."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import pytest

from pageferry.common.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from pageferry.common.handover import ANSWERS, MAY_RUN, TABLE, Event, Handover, Role, State, may_run

# Written down a second time, so that an edit of the table is an edit of this list, too.
EXPECTED: Final = """
source none             start>setup cancel>cancelled failure>failed
source setup            ready>active cancel>cancelled failure>failed connection_lost>failed
source setup            never>failed
source active           pause>pre-switchover cancel>cancelled failure>failed
source active           connection_lost>failed never>failed
source pre-switchover   resumed_again>active commit_sent>device
source pre-switchover   postcopy_commit_sent>postcopy-device
source pre-switchover   cancel>cancelled failure>failed connection_lost>failed never>failed
source device           resumed>completed running>completed never>failed unknown>rewound
source device           connection_lost>device gave_up>in-doubt
source postcopy-device  resumed>postcopy-active running>postcopy-paused never>failed
source postcopy-device  unknown>rewound connection_lost>postcopy-device gave_up>in-doubt
source postcopy-active  complete>completed connection_lost>postcopy-paused never>lost failure>lost
source postcopy-paused  recover>postcopy-recover connection_lost>postcopy-paused never>lost
source postcopy-paused  unknown>lost gave_up>lost failure>lost
source postcopy-recover recovered>postcopy-active complete>completed never>lost unknown>lost
source postcopy-recover connection_lost>postcopy-paused gave_up>lost failure>lost
source completed        connection_lost>completed
source failed           cancel>failed failure>failed connection_lost>failed never>failed
source cancelled        cancel>cancelled failure>cancelled connection_lost>cancelled
source cancelled        never>cancelled
source rewound          cancel>rewound failure>rewound connection_lost>rewound
source in-doubt         running>completed never>failed unknown>rewound released>rewound
source in-doubt         connection_lost>in-doubt
source lost             connection_lost>lost
dest   none             setup>setup cancel>cancelled failure>failed connection_lost>failed
dest   none             query>failed
dest   setup            ready>active cancel>cancelled failure>failed connection_lost>failed
dest   setup            query>failed
dest   active           commit>device postcopy_commit>postcopy-device
dest   active           cancel>cancelled failure>failed connection_lost>failed query>failed
dest   device           resumed>completed failure>lost connection_lost>device query>device
dest   postcopy-device  resumed>postcopy-active failure>lost connection_lost>postcopy-device
dest   postcopy-device  query>postcopy-device
dest   postcopy-active  complete>completed connection_lost>postcopy-paused failure>lost
dest   postcopy-active  recover>postcopy-recover query>postcopy-active
dest   postcopy-paused  recover>postcopy-recover connection_lost>postcopy-paused gave_up>lost
dest   postcopy-paused  failure>lost query>postcopy-paused complete>completed
dest   postcopy-recover recovered>postcopy-active recover>postcopy-recover gave_up>lost
dest   postcopy-recover connection_lost>postcopy-paused failure>lost query>postcopy-recover
dest   postcopy-recover complete>completed
dest   completed        recover>completed connection_lost>completed query>completed
dest   failed           cancel>failed failure>failed connection_lost>failed query>failed
dest   cancelled        cancel>cancelled failure>cancelled connection_lost>cancelled
dest   cancelled        query>cancelled
dest   lost             failure>lost connection_lost>lost query>lost
"""
RUNS: Final = {
    "source": "none setup active failed cancelled rewound",
    "dest": "device completed postcopy-device postcopy-active postcopy-paused postcopy-recover",
}
WITHOUT_RETURN: Final = "completed failed cancelled in-doubt rewound lost"


def read_expected() -> dict[tuple[str, str], dict[str, str]]:
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for line in EXPECTED.split("\n"):
        if line:
            role, state, *moves = line.split()
            into = rows.setdefault((role, state), {})
            into.update(tuple(move.split(">")) for move in moves)  # type: ignore[misc]
    return rows


ROWS: Final = read_expected()
LEGAL: Final = [(r, s, e, to) for (r, s), moves in ROWS.items() for e, to in moves.items()]
ILLEGAL: Final = [(r, s, e) for (r, s), moves in ROWS.items() for e in Event if e not in moves]


def at(role: str, state: str) -> Handover:
    """An end that has come to a state on the shortest way there."""
    ways: dict[str, list[str]] = {"none": []}
    queue = deque(["none"])
    while queue:
        here = queue.popleft()
        for event, there in ROWS[role, here].items():
            if there not in ways:
                ways[there] = [*ways[here], event]
                queue.append(there)
    end = Handover(role)
    for event in ways[state]:
        end.step(event)
    assert end.state == state
    return end


# -- the table ------------------------------------------------------------------------------------


def test_the_table_is_the_expected_list() -> None:
    assert {key: dict(moves) for key, moves in TABLE.items()} == ROWS


def test_where_the_guest_may_run() -> None:
    for role in Role:
        assert {s for s in State if may_run(role, s)} == set(RUNS[role].split())


@pytest.mark.parametrize(("role", "state", "event", "to"), LEGAL)
def test_every_legal_step_leads_to_its_state(role: str, state: str, event: str, to: str) -> None:
    for move in (Handover.step, Handover.peer):
        end = at(role, state)
        assert move(end, event) == to
        assert end.state == to
        assert end.may_run_guest == (to in RUNS[role].split())
        assert end.finished == (to == "completed")
        assert end.ended == (to in WITHOUT_RETURN.split())


@pytest.mark.parametrize(("role", "state", "event"), ILLEGAL)
def test_every_illegal_step_names_itself_and_changes_nothing(
    role: str, state: str, event: str
) -> None:
    end = at(role, state)
    before = (end.state, end.commit_sent, end.may_run_guest)
    who = {"source": "source", "dest": "destination"}[role]
    moves: list[tuple[Callable[[str], State], type[ProtocolError]]] = [
        (end.step, LocalProtocolError),
        (end.peer, RemoteProtocolError),
    ]
    for move, error in moves:
        with pytest.raises(error, match=f"^{event} is illegal at the {who} in state {state}$"):
            move(event)
        assert (end.state, end.commit_sent, end.may_run_guest) == before


def test_an_event_that_does_not_exist() -> None:
    end = Handover("source")
    with pytest.raises(LocalProtocolError, match="'explode'"):
        end.peer("explode")
    assert end.state is State.NONE


def test_there_is_no_third_role() -> None:
    with pytest.raises(ValueError, match="witness"):
        Handover("witness")


def test_states_without_return_have_no_way_out() -> None:
    for role, state in ROWS:
        leaves = set(ROWS[role, state].values()) - {state}
        if state != "in-doubt":  # which an answer, or a person, may still end
            assert (not leaves) == (state in WITHOUT_RETURN.split())


def test_commit_sent_stays_said() -> None:
    for role, state in ROWS:
        end = at(role, state)
        if state in ["none", "setup", "active", "pre-switchover", "cancelled"]:
            assert not end.commit_sent
        elif state not in ("failed",):
            assert end.commit_sent
    refused = at("source", "device")
    refused.peer("never")
    assert refused.state == "failed"
    assert refused.commit_sent


@pytest.mark.parametrize("state", [s for r, s in ROWS if r == "dest"])
def test_what_the_destination_answers(state: str) -> None:
    end = at("dest", state)
    answer = end.query()
    assert (answer == "running") == end.may_run_guest
    if state in ("none", "setup", "active", "failed", "cancelled"):
        assert answer == "never"
        assert end.ended
    if state == "lost":
        assert answer == "unknown"


def test_the_source_is_not_asked() -> None:
    with pytest.raises(RemoteProtocolError, match="query"):
        at("source", "completed").query()


def test_no_way_back_to_the_source_once_post_copy_runs() -> None:
    reach, queue = {"postcopy-active"}, deque(["postcopy-active"])
    while queue:
        for to in ROWS["source", queue.popleft()].values():
            if to not in reach:
                reach.add(to)
                queue.append(to)
    assert not reach & set(RUNS["source"].split())


# -- two ends, every order of events --------------------------------------------------------------
#
# A world is both ends, one migration connection that keeps order and may break with its last
# messages lost, and one question on a connection of its own. Either end may believe at any time
# that the connection is lost. `explore` visits every world that can be reached.

MOST_IN_FLIGHT: Final = 5  # only broken tables send so much
DEAD, NOBODY = "dead", "nobody"  # the process is gone; it is back and knows of no session
NOWHERE: Final = (DEAD, NOBODY, "failed", "cancelled", "lost")  # the destination runs no guest


@dataclass(frozen=True)
class World:
    src: str = "none"
    dst: str = "none"
    to_dst: tuple[str, ...] = ()
    to_src: tuple[str, ...] = ()
    up: bool = False  # what is sent arrives, unless it breaks
    src_lost: bool = False  # the source has given this connection up
    dst_lost: bool = False
    question: str = ""  # "", "asked", or the answer on its way back
    ran: bool = False  # the destination has run the guest

    def send_dst(self, message: str) -> World:
        arrives = self.up and len(self.to_dst) < MOST_IN_FLIGHT
        return replace(self, to_dst=(*self.to_dst, message)) if arrives else self

    def send_src(self, message: str) -> World:
        arrives = self.up and len(self.to_src) < MOST_IN_FLIGHT
        return replace(self, to_src=(*self.to_src, message)) if arrives else self


Table = dict[tuple[Role, State], dict[Event, State]]


@dataclass
class Rules:
    """What is under test: the shipped tables, or broken copies."""

    table: Table
    may_run: dict[Role, frozenset[State]]
    answers: dict[State, Event]

    def go(self, role: Role, state: str, event: str) -> str | None:
        if state in (DEAD, NOBODY):
            return None
        return self.table[role, State(state)].get(Event(event))

    def src(self, w: World, event: str) -> World | None:
        to = self.go(Role.SOURCE, w.src, event)
        return None if to is None else replace(w, src=to)

    def dst(self, w: World, event: str) -> World | None:
        to = self.go(Role.DEST, w.dst, event)
        if to is None:
            return None
        return replace(w, dst=to, ran=w.ran or State(to) in self.may_run[Role.DEST])

    def runs(self, role: Role, state: str) -> bool:
        return state not in (DEAD, NOBODY) and State(state) in self.may_run[role]


def source_moves(r: Rules, w: World) -> Iterator[World | None]:
    if w.src == DEAD:
        return
    if (n := r.src(w, "start")) is not None:
        yield replace(n, up=True).send_dst("setup")
    for event in ("pause", "resumed_again"):
        yield r.src(w, event)
    for event, message in (("commit_sent", "commit"), ("postcopy_commit_sent", "postcopy_commit")):
        if (n := r.src(w, event)) is not None:
            yield n.send_dst(message)
    for event in ("cancel", "failure"):
        if (n := r.src(w, event)) is not None:
            yield n if n.src == w.src else n.send_dst("cancel")
    yield from source_network(r, w)


def source_network(r: Rules, w: World) -> Iterator[World | None]:
    if w.src != "none" and not w.src_lost and (n := r.src(w, "connection_lost")) is not None:
        yield replace(n, src_lost=True, to_src=())
    if w.to_src and not w.src_lost:
        yield read_at_source(r, replace(w, to_src=w.to_src[1:]), w.to_src[0])
    if w.src_lost:
        yield r.src(w, "gave_up")
        if w.src in ("device", "postcopy-device", "in-doubt") and not w.question:
            yield replace(w, question="asked")
    if w.dst in NOWHERE:  # which a person can find out, and only then says so
        yield r.src(w, "released")
    if w.question not in ("", "asked"):
        answered = replace(w, question="")
        after = r.src(answered, w.question)
        yield answered if after is None else replace(after, src_lost=True)
    if w.src == "postcopy-paused":
        yield recover(r, w)


def read_at_source(r: Rules, w: World, message: str) -> World:
    n = r.src(w, message)
    if n is None:
        return w  # illegal: dropped, and the state is as it was
    return n.send_dst("pages") if n.src == "postcopy-active" else n


def recover(r: Rules, w: World) -> World | None:
    if w.dst == DEAD:
        return None
    if w.dst == NOBODY:
        return r.src(w, "unknown")
    if r.go(Role.DEST, w.dst, "recover") is None:
        return r.src(w, r.answers.get(State(w.dst), Event.NEVER))
    n = r.src(w, "recover")
    return n and replace(n, to_dst=("recover",), to_src=(), up=True, src_lost=False, dst_lost=False)


def dest_moves(r: Rules, w: World) -> Iterator[World | None]:
    if w.question == "asked" and w.dst == NOBODY:
        yield replace(w, question="unknown")
    if w.dst in (DEAD, NOBODY):
        return
    if w.question == "asked" and (n := r.dst(w, "query")) is not None:
        yield replace(n, question=r.answers.get(State(n.dst), Event.NEVER))
    for event in ("ready", "resumed", "recovered"):
        if (n := r.dst(w, event)) is not None:
            yield n.send_src(event)
    if (n := r.dst(w, "failure")) is not None:
        tells = n.dst != w.dst and r.answers.get(State(n.dst)) is Event.NEVER
        yield n.send_src("never") if tells else n
    if w.dst != "none" and not w.dst_lost and (n := r.dst(w, "connection_lost")) is not None:
        yield replace(n, dst_lost=True, to_dst=())
    if w.to_dst and not w.dst_lost:
        yield read_at_dest(r, replace(w, to_dst=w.to_dst[1:]), w.to_dst[0])
    if w.dst_lost:
        yield r.dst(w, "gave_up")


def read_at_dest(r: Rules, w: World, message: str) -> World:
    n = r.dst(w, "complete" if message == "pages" else message)
    if n is None:
        return w
    return n.send_src("complete") if n.dst == "completed" else n


def bad_luck(w: World, *, crashes: bool) -> Iterator[World]:
    """What the world does to the two: losses, and where asked for, crashes and restarts."""
    for keep in range(len(w.to_dst) + 1):
        for left in range(len(w.to_src) + 1):
            yield replace(w, up=False, to_dst=w.to_dst[:keep], to_src=w.to_src[:left])
    yield replace(w, question="")
    if w.dst in ("failed", "cancelled", "lost"):
        yield replace(w, dst=NOBODY, up=False, to_dst=())  # it may forget what it does not run
    if crashes:
        yield replace(w, src=DEAD, up=False, to_src=())
        yield replace(w, dst=DEAD, up=False, to_dst=())
        if w.dst == DEAD:
            yield replace(w, dst=NOBODY)


@dataclass
class Found:
    worlds: set[World]
    two_runners: list[World]
    untrue: list[World]  # the source believes that the guest never ran elsewhere, and it did
    stranded: list[World]  # nothing happens any more, nobody runs it, and nobody says so


def explore(r: Rules, *, crashes: bool) -> Found:
    first = World()
    found = Found({first}, [], [], [])
    queue = deque([first])
    while queue:
        w = queue.popleft()
        moves = {n for n in (*source_moves(r, w), *dest_moves(r, w)) if n is not None and n != w}
        judge(r, w, found, at_rest=not moves)
        for n in moves | set(bad_luck(w, crashes=crashes)):
            if n not in found.worlds:
                found.worlds.add(n)
                queue.append(n)
    return found


def judge(r: Rules, w: World, found: Found, *, at_rest: bool) -> None:
    runners = r.runs(Role.SOURCE, w.src) + r.runs(Role.DEST, w.dst)
    if runners == 2:
        found.two_runners.append(w)
    if w.src in ("failed", "cancelled") and w.ran:
        found.untrue.append(w)
    crashed = DEAD in (w.src, w.dst)
    lost_there = w.src == "completed" and w.ran and w.dst in ("lost", NOBODY)
    said = w.src in ("in-doubt", "lost") or lost_there
    if at_rest and runners != 1 and not crashed and not said:
        found.stranded.append(w)


def shipped() -> Rules:
    return Rules(copy.deepcopy(TABLE), dict(MAY_RUN), dict(ANSWERS))


@pytest.mark.parametrize("crashes", [False, True])
def test_never_two_guests_and_never_none_unsaid(crashes: bool) -> None:
    found = explore(shipped(), crashes=crashes)
    assert found.two_runners == []
    assert found.untrue == []
    assert found.stranded == []
    assert all(max(len(w.to_dst), len(w.to_src)) < MOST_IN_FLIGHT for w in found.worlds)
    # That this was about something: every state of both ends was visited.
    assert {w.src for w in found.worlds} - {DEAD} == {s for r, s in ROWS if r == "source"}
    assert {w.dst for w in found.worlds} - {DEAD, NOBODY} == {s for r, s in ROWS if r == "dest"}


def test_there_is_a_way_out_of_every_wait() -> None:
    """From every world with both processes alive, the two can still come to one runner.

    But for what is said to be over: in doubt, or lost in part.
    """
    r = shipped()
    found = explore(r, crashes=False)
    before: dict[World, set[World]] = {}
    for w in found.worlds:
        for n in (*source_moves(r, w), *dest_moves(r, w)):
            if n is not None:
                before.setdefault(n, set()).add(w)
    good = {w for w in found.worlds if r.runs(Role.SOURCE, w.src) + r.runs(Role.DEST, w.dst) == 1}
    queue = deque(good)
    while queue:
        for w in before.get(queue.popleft(), set()) - good:
            good.add(w)
            queue.append(w)
    over = [w.src in ("in-doubt", "lost") or w.dst in ("lost", NOBODY) for w in found.worlds - good]
    assert all(over)


S, D = Role.SOURCE, Role.DEST
BREAKS: Final[dict[str, tuple[Role, State, Event, State]]] = {
    "cancel after the commit": (S, State.DEVICE, Event.CANCEL, State.CANCELLED),
    "failure after the commit": (S, State.DEVICE, Event.FAILURE, State.FAILED),
    "resume on a broken connection": (S, State.DEVICE, Event.CONNECTION_LOST, State.FAILED),
    "resume on silence": (S, State.DEVICE, Event.GAVE_UP, State.FAILED),
    "resume on running": (S, State.DEVICE, Event.RUNNING, State.FAILED),
    "rounds after the commit": (S, State.DEVICE, Event.RESUMED_AGAIN, State.ACTIVE),
    "cancel of post-copy": (S, State.POSTCOPY_DEVICE, Event.CANCEL, State.CANCELLED),
    "resume from post-copy": (S, State.POSTCOPY_ACTIVE, Event.FAILURE, State.FAILED),
    "resume from paused post-copy": (S, State.POSTCOPY_PAUSED, Event.GAVE_UP, State.REWOUND),
    "never, and then run it": (D, State.FAILED, Event.COMMIT, State.DEVICE),
    "never, without meaning it": (D, State.ACTIVE, Event.QUERY, State.ACTIVE),
    "never, while it runs": (D, State.DEVICE, Event.QUERY, State.FAILED),
    "commit taken back": (D, State.DEVICE, Event.CONNECTION_LOST, State.FAILED),
    "lost called never": (D, State.DEVICE, Event.FAILURE, State.FAILED),
    "unknown called failed": (S, State.DEVICE, Event.UNKNOWN, State.FAILED),
    "doubt taken for a no": (S, State.IN_DOUBT, Event.RUNNING, State.REWOUND),
    "cancel that leaves it paused": (S, State.PRE_SWITCHOVER, Event.CANCEL, State.COMPLETED),
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_exploration_notices_a_broken_table(name: str) -> None:
    role, state, event, to = BREAKS[name]
    broken = shipped()
    broken.table[role, state][event] = to
    found = explore(broken, crashes=True)
    assert found.two_runners or found.untrue or found.stranded


def test_the_exploration_notices_other_breaks() -> None:
    early = shipped()
    early.may_run[D] |= {State.ACTIVE}
    assert explore(early, crashes=False).two_runners
    late = shipped()
    late.may_run[S] |= {State.DEVICE}
    assert explore(late, crashes=False).two_runners
    denial = shipped()
    denial.answers[State.LOST] = Event.NEVER
    assert explore(denial, crashes=False).untrue
