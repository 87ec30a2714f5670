"""Fault injection: where an agent can be made to fail, how, and the parser of `--inject`.

`[AGENT/]POINT:ACTION[:ARGUMENT]`. Points are steps of the protocol, each at one agent; where both
agents have a step of the same name, AGENT/ says which one is meant. This file is pure:
`common.wire.injector` carries out what a `FaultPlan` says is due.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, Self

from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.errors import UsageError
from pageferry.common.units import (
    format_rate,
    format_size,
    format_time,
    parse_rate,
    parse_size,
    parse_time,
)

Agent = Literal["source", "dest"]
AGENTS: Final[tuple[Agent, ...]] = ("source", "dest")


@dataclass(frozen=True, slots=True)
class FaultPoint:
    """A step of the protocol at which an agent can be made to fail.

    Attributes:
        agent: The agent that takes the step.
        pattern: The step's name, where N stands for any number.
        meaning: What has happened at that moment, for `pageferry inject list`.
    """

    agent: Agent
    pattern: str
    meaning: str

    def matches(self, name: str) -> bool:
        """Tell whether a name is this point, with a number for N.

        Args:
            name: As written: rounds count from 1 to 9999, percentages from 0 to 100.

        Returns:
            Whether the whole name fits the pattern.
        """
        numbers = "[1-9][0-9]{0,3}" if "round" in self.pattern else "(?:[1-9]?[0-9]|100)"
        return re.fullmatch(re.escape(self.pattern).replace("N", numbers), name) is not None


# In the order in which a migration reaches them.
POINTS: Final = (
    FaultPoint("source", "connected", "the destination has welcomed the session"),
    FaultPoint("source", "set-up", "connections stand, the guest has not been started"),
    FaultPoint("source", "after-round-N", "the destination has confirmed round N"),
    FaultPoint("source", "before-pause", "no more rounds: the guest is about to be paused"),
    FaultPoint("source", "paused", "the guest is paused, the last pages have not been sent"),
    FaultPoint("source", "before-commit", "all but the commit has been sent"),
    FaultPoint("source", "commit-sent", "the commit's last byte has left, the answer is awaited"),
    FaultPoint("source", "resumed-there", "the destination has said that it runs the guest"),
    FaultPoint("source", "postcopy-N%", "that share of the missing pages has been sent"),
    FaultPoint("source", "recovering", "back on a new connection, before it says what is missing"),
    FaultPoint("source", "before-bye", "the result has come, its receipt has not been sent"),
    FaultPoint("source", "verifying", "about to replay the guest"),
    FaultPoint("dest", "hello", "a source has come and has not been welcomed"),
    FaultPoint("dest", "setup-received", "it is known which guest will come"),
    FaultPoint("dest", "ready", "memory is there, the source has not been told"),
    FaultPoint("dest", "round-N-received", "round N is here whole, the source has not been told"),
    FaultPoint(
        "dest", "commit-received", "the whole commit is here and nothing of it has been done"
    ),
    FaultPoint("dest", "before-resume", "the guest is this side's and does not run yet"),
    FaultPoint("dest", "resumed", "the guest runs, the source has not been told"),
    FaultPoint("dest", "postcopy-N%", "that share of the missing pages is in place"),
    FaultPoint("dest", "recovering", "the source is back, it has not been told what is missing"),
    FaultPoint("dest", "before-complete", "no page is missing, the source has not been told"),
    FaultPoint("dest", "finished", "the guest has been stopped, the result has not been sent"),
    FaultPoint("dest", "asked", "the source asks what became of its commit"),
)


class Action(StrEnum):
    """What is done at a point."""

    KILL = "kill"
    STALL = "stall"
    CUT = "cut"
    SLOW = "slow"
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True)
class ActionHelp:
    """How an action is written, and what it does.

    Attributes:
        usage: As it is written behind a point; brackets mark an optional argument.
        meaning: What happens, for `pageferry inject list`.
        only: The one agent that can do it; None: either.
    """

    usage: str
    meaning: str
    only: Agent | None = None


ACTIONS: Final[dict[Action, ActionHelp]] = {
    Action.KILL: ActionHelp("kill", "the agent is killed (SIGKILL), and its guest with it"),
    Action.STALL: ActionHelp(
        "stall:TIME",
        "the agent is stopped for TIME, its guest too; its connections stay, and nobody answers",
    ),
    Action.CUT: ActionHelp(
        "cut[:SIZE]",
        "every connection of the session is reset; with SIZE, after so many bytes of the next frame"
        " that this agent sends",
    ),
    Action.SLOW: ActionHelp(
        "slow:RATE", "from here on pages leave the source, or are read at the destination, at RATE"
    ),
    Action.CORRUPT: ActionHelp(
        "corrupt[:SIZE]",
        "a bit of the next bulk frame is flipped on its way, SIZE bytes into its pages",
        only="source",
    ),
}


def _format_bytes(size: float) -> str:
    """Format a number of bytes that is held as a float."""
    return format_size(int(size))


class Injection(str):
    """One fault: the text that parses to it again, and what that text means.

    Args:
        agent: The agent at which it happens.
        point: The name of the point, with a number for N.
        action: What is done there.
        amount: Seconds for a stall, bytes/s for `slow`, bytes for the others; None: none was given.

    Attributes:
        agent, point, action, amount: As given.
    """

    agent: Agent
    point: str
    action: Action
    amount: float | None

    def __new__(cls, agent: Agent, point: str, action: Action, amount: float | None = None) -> Self:
        """Make the text, `AGENT/POINT:ACTION[:ARGUMENT]`, and keep its parts."""
        self = super().__new__(cls, _written(agent, point, action, amount))
        self.agent, self.point, self.action, self.amount = agent, point, action, amount
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:  # for copies, and to send one to a worker
        return self.agent, self.point, self.action, self.amount


def _written(agent: Agent, point: str, action: Action, amount: float | None) -> str:
    """Write a fault as `--inject` takes it."""
    shown: dict[Action, Callable[[float], str]] = {
        Action.STALL: format_time,
        Action.SLOW: format_rate,
        Action.CUT: _format_bytes,
        Action.CORRUPT: _format_bytes,
    }
    text = f"{agent}/{point}:{action}"
    return text if amount is None else f"{text}:{shown[action](amount)}"


def parse_injection(text: str) -> Injection:
    """Parse `[AGENT/]POINT:ACTION[:ARGUMENT]`.

    Args:
        text: As a person has written it. AGENT/ may be left out where it makes no difference.

    Returns:
        The fault, with its agent filled in.

    Raises:
        ValueError: The text is no fault; the message lists the points, actions or usages there are.
    """
    where, _, what = text.partition(":")
    agents, point = _parse_point(where, text)
    name, colon, argument = what.partition(":")
    if name not in set(Action):
        usages = ", ".join(each.usage for each in ACTIONS.values())
        hint = did_you_mean(name, Action)
        raise ValueError(
            f"{text!r}: {name!r} is not an action: expected one of {usages}{hint and f'; {hint}'}"
        )
    action = Action(name)
    agent = _agent_of(agents, point, action, text)
    return Injection(agent, point, action, _parse_amount(action, argument, text, bool(colon)))


def _agent_of(agents: Sequence[Agent], point: str, action: Action, text: str) -> Agent:
    """Decide whose fault it is: the source's where both have the point and it makes no difference.

    It makes no difference for a cut while pages are pushed, which resets the connections of both
    agents, and for an action that only one of them can do.
    """
    only = ACTIONS[action].only
    if only is not None and only not in agents:
        raise ValueError(
            f"{text!r}: {action} is done by the {only}, and {point} is not its point: expected one"
            f" of {', '.join(p.pattern for p in POINTS if p.agent == only)}"
        )
    if len(agents) == 1 or only is not None:
        return only or agents[0]
    if action is Action.CUT and point.startswith("postcopy-"):
        return "source"
    raise ValueError(f"{text!r}: both agents have {point}: write source/{point} or dest/{point}")


def _parse_point(where: str, text: str) -> tuple[list[Agent], str]:
    """Return the agents that have the point, and its name."""
    prefix, slash, name = where.rpartition("/")
    if slash and prefix not in AGENTS:
        raise ValueError(f"{text!r}: {prefix!r} is not an agent: expected source or dest")
    found = [p.agent for p in POINTS if p.matches(name) and (not slash or p.agent == prefix)]
    if not found:
        names = ", ".join(f"{p.agent}/{p.pattern}" for p in POINTS)
        hint = did_you_mean(name, [p.pattern for p in POINTS])
        raise ValueError(
            f"{text!r}: {where!r} is not a point: {hint and f'{hint} '}expected one of {names}"
        )
    return found, name


def _parse_amount(action: Action, argument: str, text: str, given: bool) -> float | None:
    """Parse an action's argument; return None where it takes none, or none was given."""
    parsers: dict[Action, Callable[[str], float]] = {
        Action.STALL: parse_time,
        Action.SLOW: parse_rate,
        Action.CUT: parse_size,
        Action.CORRUPT: parse_size,
    }
    usage = ACTIONS[action].usage
    optional = "[" in usage
    if not given and (optional or action is Action.KILL):
        return None
    if not argument or action is Action.KILL:
        raise ValueError(f"{text!r}: expected {usage}")
    if argument.isascii() and argument.isdigit() and optional:
        argument += "B"  # bytes of a frame are counted, not measured
    try:
        return parsers[action](argument)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None


def for_agent(agent: Agent, faults: Iterable[Injection]) -> tuple[Injection, ...]:
    """Return the faults that are injected at one agent.

    Args:
        agent: Which agent.
        faults: Of both agents, in any order.

    Returns:
        The agent's own, in the order given.
    """
    return tuple(fault for fault in faults if fault.agent == agent)


def only_for(agent: Agent, faults: Iterable[Injection]) -> None:
    """Refuse faults of the other agent.

    Args:
        agent: The agent that was given the faults.
        faults: As they were given to it.

    Raises:
        UsageError: One of them is a point of the other agent.
    """
    for fault in faults:
        if fault.agent != agent:
            raise UsageError(
                f"--inject: {fault} is a point of the {fault.agent}: give it to that agent"
            )


def no_fault(_point: str) -> None:
    """Do nothing: the hook at every point where nothing is injected."""


class FaultPlan:
    """The faults that are due at an agent's points; each happens once in the life of the agent.

    Args:
        injections: This agent's faults, in the order in which those of one point happen.
    """

    def __init__(self, injections: Sequence[Injection]) -> None:
        self._left = list(injections)

    def due(self, point: str) -> list[Injection]:
        """Take the faults of a point; they are spent.

        Args:
            point: The point that the agent has reached, with a number for N.

        Returns:
            The faults to carry out, in the order given; usually none.
        """
        found = [each for each in self._left if each.point == point]
        self._left = [each for each in self._left if each.point != point]
        return found

    def shares(self) -> list[int]:
        """List the percentages of post-copy at which a fault is still to happen.

        Returns:
            The N of every `postcopy-N%` that has not been spent, ascending.
        """
        names = (each.point for each in self._left)
        return sorted(int(m[1]) for n in names if (m := re.fullmatch(r"postcopy-(\d+)%", n)))
