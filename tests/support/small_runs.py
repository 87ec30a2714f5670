"""Options of migrations that are quick: for tests of what is around them."""

from __future__ import annotations

from typing import Any, Final

SMALL: Final[dict[str, Any]] = {
    "memory": "16MiB",
    "workload": "zipf:rate=20MB/s",
    "strategy": "pre-copy",
    "warmup": 0.1,
    "run_after": 0.1,
    "max_bandwidth": "unlimited",
}
SLOW: Final[dict[str, Any]] = {**SMALL, "max_bandwidth": "4MB/s"}  # 4 s, if it is let
