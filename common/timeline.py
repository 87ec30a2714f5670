"""Timestamped events: what happened when, on this host's CLOCK_MONOTONIC."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

MAX_EVENTS: Final = 20_000  # of one agent; those beyond are only counted, and reported


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One event.

    Attributes:
        t_ns: When it happened, ns of CLOCK_MONOTONIC of the agent's host.
        event: Its kind, a name with hyphens.
        fields: What else is known of it; has to be JSON-able.
    """

    t_ns: int
    event: str
    fields: dict[str, Any] = field(default_factory=dict)


class Timeline:
    """An agent's events. Any thread may log.

    Args:
        agent: Whose events these are, `source` or `dest`.
        sink: Called with each event as it is logged, on the logging thread, also beyond
            `MAX_EVENTS`.
    """

    def __init__(self, agent: str, sink: Callable[[TimelineEvent], None] | None = None) -> None:
        self.agent = agent
        self._sink = sink
        self._events: list[TimelineEvent] = []
        self._dropped = 0
        self._lock = threading.Lock()

    def log(self, event: str, *, t_ns: int | None = None, **fields: Any) -> int:
        """Record an event.

        Args:
            event: Its kind.
            t_ns: When it happened, ns of CLOCK_MONOTONIC; None: now.
            **fields: What else is known of it; has to be JSON-able.

        Returns:
            The event's time in ns.
        """
        entry = TimelineEvent(time.monotonic_ns() if t_ns is None else t_ns, event, fields)
        with self._lock:
            if len(self._events) < MAX_EVENTS - 1:
                self._events.append(entry)
            else:
                self._dropped += 1
        if self._sink is not None:
            self._sink(entry)
        return entry.t_ns

    @property
    def events(self) -> list[TimelineEvent]:
        """All of them, sorted by time; where some did not fit, the last one says how many."""
        with self._lock:
            out = sorted(self._events, key=lambda entry: entry.t_ns)
            if self._dropped and out:
                out.append(TimelineEvent(out[-1].t_ns, "events-dropped", {"count": self._dropped}))
        return out

    def find(self, event: str) -> int | None:
        """Find the last event of a kind.

        Args:
            event: Its kind.

        Returns:
            The time in ns at which the one that was logged last happened; None: there was none.
        """
        with self._lock:
            times = [entry.t_ns for entry in self._events if entry.event == event]
        return times[-1] if times else None
