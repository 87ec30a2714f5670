"""Timestamped events: what happened when, on this host's CLOCK_MONOTONIC."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

MAX_EVENTS: Final = 20_000  # of one agent; what is over is counted and said


@dataclass(frozen=True, slots=True)
class Event:
    """One event. t_ns: CLOCK_MONOTONIC of the agent's host; fields: JSON-able."""

    t_ns: int
    event: str
    fields: dict[str, Any] = field(default_factory=dict)


class Timeline:
    """An agent's events in order. Any thread may log; `sink` sees each one as it comes."""

    def __init__(self, agent: str, sink: Callable[[Event], None] | None = None) -> None:
        self.agent = agent
        self._sink = sink
        self._events: list[Event] = []
        self._dropped = 0
        self._lock = threading.Lock()

    def log(self, event: str, *, t_ns: int | None = None, **fields: Any) -> int:
        """Record `event`, now or at the given time; returns its time in ns."""
        entry = Event(time.monotonic_ns() if t_ns is None else t_ns, event, fields)
        with self._lock:
            if len(self._events) < MAX_EVENTS - 1:
                self._events.append(entry)
            else:
                self._dropped += 1
        if self._sink is not None:
            self._sink(entry)
        return entry.t_ns

    @property
    def events(self) -> list[Event]:
        """All of them, sorted by time; the last one says how many did not fit."""
        with self._lock:
            out = sorted(self._events, key=lambda entry: entry.t_ns)
            if self._dropped and out:
                out.append(Event(out[-1].t_ns, "events-dropped", {"count": self._dropped}))
        return out

    def find(self, event: str) -> int | None:
        """Time in ns of the last event of that name, or None."""
        with self._lock:
            times = [entry.t_ns for entry in self._events if entry.event == event]
        return times[-1] if times else None
