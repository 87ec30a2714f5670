"""The command line and the date of a result, for its report."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pageferry.common.report.schema import Report

_LONGEST: Final = 4096  # characters
# No option of ours takes a secret. An address might carry one, and so might a future option.
_IN_ADDRESS: Final = re.compile(r"(?<=://)[^/@\s]+@")
_IN_OPTION: Final = re.compile(r"(?i)((?:^|[-_,:])(?:password|passphrase|secret|token|key))=.*")
_NAMED: Final = re.compile(r"(?i)--(?:[a-z]+-)*(?:password|passphrase|secret|token)")
_HIDDEN: Final = "***"

_words: list[str] = []


def note(words: Sequence[str]) -> None:
    """Remember what this process was started with.

    Args:
        words: The command line, the program first; replaces what was noted before.
    """
    _words[:] = words


def command_line() -> str | None:
    """Write this process's command line as a shell reads it, with secrets left out.

    Returns:
        None in a process that runs no command of ours.
    """
    return written(_words) if _words else None


def written(words: Sequence[str]) -> str:
    """Write a command for a report: `pageferry migrate --memory 64MiB`.

    Args:
        words: The command line, the program first.

    Returns:
        As a shell reads it, secrets replaced by `***`; cut off after 4096 characters.
    """
    shown: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if _NAMED.fullmatch(before):
            shown.append(_HIDDEN)
        else:
            shown.append(_IN_OPTION.sub(rf"\1={_HIDDEN}", _IN_ADDRESS.sub(f"{_HIDDEN}@", word)))
    text = shlex.join(shown)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def now() -> str:
    """Give the present time for a report.

    Returns:
        UTC, ISO 8601 to the second: `2026-11-29T01:20:46Z`.
    """
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stamp_report(report: Report, instead: Sequence[str] = ()) -> None:
    """Put into a report when and how it was made. A date that is there stays.

    Args:
        report: Its `date` and `command` are set.
        instead: The command that would make this one result, for processes where nobody typed one.
    """
    report.date = report.date or now()
    report.command = command_line() or (written(instead) if instead else None)
