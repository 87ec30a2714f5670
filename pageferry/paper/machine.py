"""What figures were measured on, as they are kept with them."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime

from pageferry._version import __version__
from pageferry.common.process.processor import processor
from pageferry.sweeps.environment import environment


def today() -> str:
    """Return the day, as it is kept with figures: ISO 8601, UTC."""
    return datetime.now(UTC).date().isoformat()


def describe_machine() -> dict[str, str]:
    """Describe this machine without its name.

    Returns:
        Processor, usable cores, kernel, and versions.
    """
    return {
        "processor": processor() or "unknown",
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": f"{platform.system()} {platform.release()}",
        "pageferry": __version__,
        **environment(),
    }
