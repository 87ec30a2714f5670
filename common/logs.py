"""An agent's log: lines for people on standard error, and every event as JSON in a file."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TextIO

import structlog

from common.errors import UsageError
from common.timeline import Event


class AgentLog:
    """`say` is for people, `event` for programs.

    log_dir: gets `AGENT.log`, one JSON object a line, appended. quiet: nothing for people.
    """

    def __init__(self, agent: str, *, log_dir: Path | None, quiet: bool) -> None:
        self._quiet = quiet
        self._file: TextIO | None = None
        if log_dir is not None:
            path = log_dir / f"{agent}.log"
            try:
                log_dir.mkdir(parents=True, exist_ok=True)
                # Appended to, never overwritten; what somebody else has put there as a link is not.
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._file = os.fdopen(os.open(path, flags, 0o666), "a", 1, encoding="utf-8")
            except OSError as error:
                raise UsageError(f"--log-dir: can't write {path}: {error.strerror}") from None
        self._logger = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[
                structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
                structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
            ],
        ).bind()

    def say(self, line: str) -> None:
        """One line for people."""
        if not self._quiet:
            self._logger.info(line)
        self._write({"wall_s": time.time(), "say": line})

    def event(self, session: str, event: Event) -> None:
        """One event of a timeline."""
        entry = {"t_ns": event.t_ns, "session": session, "event": event.event}
        self._write(entry | event.fields)

    def _write(self, entry: dict[str, object]) -> None:
        if self._file is not None:
            try:
                self._file.write(json.dumps(entry, default=str) + "\n")
            except (OSError, ValueError) as error:
                # A full disk must not end a migration; it is said once.
                self._file = None
                print(f"pageferry: the log could not be written: {error}", file=sys.stderr)

    def close(self) -> None:
        """Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
