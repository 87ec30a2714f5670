"""The file of the workload `trace`: which content is meant. Separate, as it needs numpy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pageferry.common.errors import UsageError
from pageferry.common.files.memory_trace import MemoryTrace, open_trace

_LONGEST: Final = 512  # characters of a workload that fit in a configuration


def traced(options: Mapping[str, Any]) -> MemoryTrace:
    """Open the file that the options name.

    Args:
        options: Of the workload `trace`; `file` and `digest` are looked at.

    Returns:
        The trace, mapped; its content has not been compared with its metadata yet.

    Raises:
        UsageError: It can't be read, or is not the one whose digest the options give.
    """
    trace = open_trace(options["file"])
    found, wanted = trace.meta.digest, options["digest"]
    if wanted not in ("any", found):
        raise UsageError(
            f"trace {options['file']!r} is another one here: its digest is {found},"
            f" expected {wanted}"
        )
    return trace


def pin(options: Mapping[str, Any], text: str) -> str:
    """Add the digest of the file's content to a workload's text, or replace the digest there.

    Args:
        options: Of the workload `trace`; `file` and `digest` are looked at.
        text: The workload's text, `trace:...`.

    Returns:
        The text that another host must be given; see `Spec.pin`.

    Raises:
        UsageError: The file is not to be had, or the text no longer fits in a configuration.
    """
    said = f"digest={traced(options).meta.digest}"
    pinned, count = re.subn("(?<=[:,])digest=[^,]*", said, text)
    if not count:
        pinned = f"{text},{said}"
    if len(pinned) > _LONGEST:
        raise UsageError(f"workload trace: {len(pinned)} characters, at most {_LONGEST} fit")
    return pinned
