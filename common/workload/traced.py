"""The file of the workload `trace`: which content is meant. Apart, since it needs numpy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pageferry.common.errors import UsageError
from pageferry.common.files.memory_trace import Trace, open_trace

_LONGEST: Final = 512  # characters of a workload that fit in a configuration


def traced(options: Mapping[str, Any]) -> Trace:
    """The file that the options mean. Raises `UsageError`, also where its content is another."""
    trace = open_trace(options["file"])
    found, wanted = trace.meta.digest, options["digest"]
    if wanted not in ("any", found):
        raise UsageError(
            f"trace {options['file']!r} is another one here: its digest is {found},"
            f" expected {wanted}"
        )
    return trace


def pin(options: Mapping[str, Any], text: str) -> str:
    """See `Spec.pin`: with the digest of the file's content."""
    said = f"digest={traced(options).meta.digest}"
    pinned, count = re.subn("(?<=[:,])digest=[^,]*", said, text)
    if not count:
        pinned = f"{text},{said}"
    if len(pinned) > _LONGEST:
        raise UsageError(f"workload trace: {len(pinned)} characters, at most {_LONGEST} fit")
    return pinned
