"""An agent's log: lines for people on standard error, and every event as JSON in a file."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from pageferry.common.errors import UsageError
from pageferry.common.process.notices import notify_once
from pageferry.common.timeline import TimelineEvent

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def _console() -> Any:
    """Return the logger for people; loaded only where there is one: it takes 40 ms."""
    import structlog

    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
        ],
    ).bind()


class AgentLog:
    """A log: `say` is for people, `event` for programs.

    A disk that is full, or fills up, ends the log with a notice, and nothing else.

    Args:
        agent: The agent's name, which the file has, too.
        log_dir: Gets `AGENT.log`, one JSON object a line, appended; None: no file.
        quiet: Whether nothing is printed for people.

    Raises:
        UsageError: The file can't be written to.
    """

    def __init__(self, agent: str, *, log_dir: Path | None, quiet: bool) -> None:
        self._console = None if quiet else _console()
        self._fd = -1
        self._folder = log_dir
        if log_dir is not None:
            path = log_dir / f"{agent}.log"
            try:
                log_dir.mkdir(parents=True, exist_ok=True)
                # Appended to, never overwritten; a link that is there is not followed.
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._fd = os.open(path, flags, 0o666)
            except OSError as error:
                if error.errno not in _FULL:
                    raise UsageError(f"--log-dir: can't write {path}: {error.strerror}") from None
                self._end(error)

    def say(self, line: str) -> None:
        """Log a line for people.

        Args:
            line: Printed with the time of day, and written to the file.
        """
        if self._console is not None:
            self._console.info(line)
        self._write({"wall_s": time.time(), "say": line})

    def event(self, session: str, event: TimelineEvent) -> None:
        """Log one event of a timeline, for programs only.

        Args:
            session: The id of its session.
            event: Its fields are written beside its time and name.
        """
        entry = {"t_ns": event.t_ns, "session": session, "event": event.event}
        self._write(entry | event.fields)

    def _write(self, entry: dict[str, object]) -> None:
        """Append one object to the file, if there is one."""
        if self._fd < 0:
            return
        left = memoryview((json.dumps(entry, default=str) + "\n").encode(errors="replace"))
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> None:
        """End the log, in the words that all agents have that log there: a person sees one line."""
        self.close()
        notify_once(
            f"--log-dir: {self._folder} can't be written to any more"
            f" ({os.strerror(error.errno or errno.EIO)}): its logs end, all else goes on"
        )

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1
