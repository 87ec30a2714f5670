"""What the guest's cache does in a round, from its counters before and after."""

from __future__ import annotations

from pageferry.common.guest.machine import Guest
from pageferry.common.strategy.base import CacheStats


class CacheWatch:
    """Looks at the cache's counters when a round begins and when it has ended.

    Args:
        guest: Its caches are watched; it may run.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._line_size = guest.config.cache_line
        self.begin()

    def begin(self) -> None:
        """Begin a round: what the cache does from here on counts for it."""
        self._before = self._guest.cache_stats() or {}
        self._dirty = self._guest.dirty_lines()

    def end(self, seconds: float, stale_pages: int, stale_lines: int) -> CacheStats | None:
        """Tell what the cache has done since.

        Args:
            seconds: Since the round began.
            stale_pages: Pages that are stale now.
            stale_lines: 64-byte lines of them.

        Returns:
            None without a cache.
        """
        now = self._guest.cache_stats()
        if now is None:
            return None
        done = {name: count - self._before.get(name, 0) for name, count in now.items()}
        dirty = self._guest.dirty_lines()
        dirtied = done["write_backs"] + done["drained_lines"] + dirty - self._dirty
        accesses = done["hits"] + done["misses"]
        written_back = done["write_backs"] * self._line_size
        return CacheStats(
            dirty_hit_rate=min(max(1 - dirtied / accesses, 0.0), 1.0) if accesses else 0.0,
            write_back_Bps=written_back / seconds if seconds > 0 else 0.0,
            dirty_lines=dirty,
            lines_per_page=stale_lines / stale_pages if stale_pages else 0.0,
        )
