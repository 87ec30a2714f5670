"""Progress on standard error: a bar on a terminal, lines for files and programs elsewhere.

`plain` is a line every few seconds, `[ 12.0 s] round 2 · 488 MB · 99.7 MB/s`. `json` is an object a
line for programs: `t_s` since the command began to work, `phase` in words, and figures that depend
on the kind of work (docs/progress.md). Complaints and notices are not progress: they begin with
`pageferry: ` whatever is chosen.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Annotated, Any, Final, Literal, Self

from cyclopts import Parameter
from pydantic import Field

from pageferry.common.command_line.options import Options
from pageferry.common.errors import PageferryError
from pageferry.common.process.notices import notify_once
from pageferry.common.process.threads import WatchedThread, failure_of

EVERY_S: Final = 3.0
COMPILING: Final = "compiling kernels"  # how that phase begins, which is announced at once

Wish = Literal["auto", "plain", "json", "none"]
Form = Literal["bar", "plain", "json", "none"]


class ProgressOptions(Options):
    """How progress is shown."""

    quiet: Annotated[
        bool, Parameter(negative=""), Field(description="no progress on standard error")
    ] = False
    progress: Annotated[
        Wish,
        Field(
            description="on standard error; auto: a bar on a terminal, elsewhere a line every few"
            " seconds (plain); json: an object a line"
        ),
    ] = "auto"

    @property
    def wish(self) -> Wish:
        """What was asked for, with `--quiet` taken into account."""
        return "none" if self.quiet else self.progress


def form_of(wish: Wish, *, terminal: bool) -> Form:
    """Choose how progress is shown.

    Args:
        wish: What the user asked for.
        terminal: Whether standard error is one.

    Returns:
        The same as `wish`, with `auto` decided.
    """
    if wish == "auto":
        return "bar" if terminal else "plain"
    return wish


class Lines:
    """Progress as lines: the latest word every `EVERY_S`, printed by a thread of its own.

    Slow work may report nothing for a while; the lines then show that it goes on. Where the user
    asked for lines, there is one at the beginning and one at the end, too. They are printed while
    this is entered.

    Args:
        wish: What the user asked for.
        terminal: Whether standard error is one.

    Attributes:
        form: How progress is shown.
        on: Whether lines are printed; False from the first failure on.
    """

    def __init__(self, wish: Wish, *, terminal: bool) -> None:
        self.form = form_of(wish, terminal=terminal)
        self.on = self.form in ("plain", "json")
        self._eager = self.on and wish != "auto"
        self._began_s = time.monotonic()
        self._lock = threading.Lock()
        self._latest: tuple[str, Mapping[str, Any]] | None = None
        self._said: tuple[str, Mapping[str, Any]] | None = None
        self._over = threading.Event()
        self._thread = WatchedThread(self._run, "progress", self._failed)

    def __enter__(self) -> Self:
        self._began_s = time.monotonic()
        if self.on:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._eager and self._latest != self._said:
            self._say_now()

    def show(self, words: str, phase: str, figures: Mapping[str, Any]) -> None:
        """Note this moment; it is printed with the next line.

        Args:
            words: For people.
            phase: The same phase in words, for programs. Compiling kernels is announced at once.
            figures: For programs; JSON-able.
        """
        if not self.on:
            return
        with self._lock:
            first = self._latest is None
            news = self._latest is None or self._latest[1].get("phase") != phase
            self._latest = (words, {"phase": phase, **figures})
        if (first and self._eager) or (news and COMPILING in phase):
            self._say_now()

    def _say_now(self) -> None:
        """Print a line on the thread that works, which must not fail because of it."""
        if not self.on:
            return
        try:
            self._say()
        except Exception as error:  # noqa: BLE001 - it is said
            self._failed(failure_of(error))

    def _run(self) -> None:
        """Print a line every `EVERY_S` until it is over."""
        while not self._over.wait(EVERY_S):
            self._say()

    def _failed(self, error: PageferryError) -> None:
        """Go on without lines: the work does not depend on them."""
        self.on = False
        notify_once(f"no more progress is shown: {error}")

    def _say(self) -> None:
        """Print the latest word."""
        with self._lock:
            if self._latest is None:
                return
            words, figures = self._said = self._latest
        elapsed_s = time.monotonic() - self._began_s
        if self.form == "json":
            line = json.dumps({"t_s": round(elapsed_s, 3), **figures})
        else:
            line = f"[{elapsed_s:5.1f} s] {words}"
        # Without the lock: a reader that has stopped reading holds up this thread only.
        with contextlib.suppress(OSError, ValueError):  # whoever read it has gone away
            print(f"{line}\n", end="", file=sys.stderr, flush=True)
