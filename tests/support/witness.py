"""Who runs a guest, seen from outside: the vCPUs' own control words, through a shared file.

An agent's word is not taken. A guest runs when its vCPUs leave heartbeats, which their compiled
loops write into memory that this process has mapped as well; that goes on whatever the agent
believes, and what it wrote stays when it is killed.
"""

from __future__ import annotations

import mmap
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from pageferry.common.guest.control import CONTROL_WORDS, LAST_NS, QUANTA, REPLAY


@dataclass
class Seen:
    """Of one guest. beats: CLOCK_MONOTONIC ns, each later than the one before, of real running."""

    path: Path
    beats: list[int] = field(default_factory=list)
    _words: memoryview | None = None

    def look(self) -> None:
        """Take the latest heartbeat."""
        if self._words is None:
            if not self.path.exists() or self.path.stat().st_size < CONTROL_WORDS * 8:
                return
            with self.path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), CONTROL_WORDS * 8, prot=mmap.PROT_READ)
            self._words = memoryview(mapped).cast("q")  # a look takes no microsecond
        words = self._words
        last, quanta = words[LAST_NS], words[QUANTA]
        # In this order: a heartbeat that was read while this is 0 is not that of a replay. A replay
        # says which was the last one before it, to who did not get to look while the guest ran.
        last = words[REPLAY] or last
        if last > 1 and quanta and (not self.beats or last > self.beats[-1]):
            self.beats.append(last)


class Witness:
    """Looks at both guests until it is closed. every_s: how often."""

    def __init__(self, source: Path, dest: Path, *, every_s: float = 0.001) -> None:
        self._every_s = every_s
        self.source, self.dest = Seen(source), Seen(dest)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="witness", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.is_set():
            self.source.look()
            self.dest.look()
            time.sleep(self._every_s)

    def close(self) -> None:
        """A last look."""
        self._over.set()
        self._thread.join()
        self.source.look()
        self.dest.look()

    def turns(self) -> str:
        """Whose heartbeats came one after the other: `S`, `SD` (it moved), `SDS` (it came back)."""
        beats = [(t, "S") for t in self.source.beats] + [(t, "D") for t in self.dest.beats]
        out = ""
        for _, who in sorted(beats):
            if not out.endswith(who):
                out += who
        return out
