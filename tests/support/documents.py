"""Reports of unlike runs, made once by the command line, for whatever looks at what they say."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from tests.support.command_line import pageferry

FAULTING = (
    *("--strategy", "post-copy", "--memory", "32MiB", "--cache", "0", "--max-bandwidth", "50MB/s"),
    *("--workload", "uniform:working-set=50%,rate=40MB/s"),
)
SIMULATION = ("simulate", "--memory", "64MiB", "--link", "rate=1gbit,delay=1ms", "--workload")
ZIPF = "zipf:rate=40MB/s,working-set=30%"


_LIMIT = ("--max-bandwidth", "100MB/s")
_NO_LIMIT = ("--max-bandwidth", "unlimited")
_BROKEN = ("--inject", "set-up:cut", "--recover-timeout", "1s")
_COLD = ("--warmup", "0s", "--run-after", "0s")
_SHORT = ("--warmup", "100ms", "--measure", "100ms")
_SMALL = ("--memory", "16MiB")
_AS_JSON = ("--json", "-", "--warmup", "100ms", "--run-after", "100ms")
_COMMANDS: dict[str, tuple[str, ...]] = {
    "limited": ("migrate", *_AS_JSON, *_SMALL, "--strategy", "pre-copy", *_LIMIT),
    "unlimited": ("migrate", *_AS_JSON, *_SMALL, "--strategy", "lazy-copy", *_NO_LIMIT),
    "traced": ("migrate", *_AS_JSON, *FAULTING, "--trace-faults"),
    "converging": ("migrate", *_AS_JSON, *_SMALL, "--strategy", "pre-copy", "--auto-converge"),
    "counting": ("migrate", *_AS_JSON, *_SMALL, "--count-writes", "--granularity", "page"),
    "failed": ("migrate", *_AS_JSON, *_SMALL, *_BROKEN),
    "cold": ("migrate", "--json", "-", *_SMALL, "--strategy", "pre-copy", *_COLD),
    "simulated": (*SIMULATION, ZIPF, *_NO_LIMIT, "--json", "-"),
    "compared": ("compare", *_AS_JSON, *_SMALL, "--strategies", "pre-copy,post-copy"),
    "predicted": ("predict", *_SMALL, *_NO_LIMIT, "--json", "-", *_SHORT),
}


@functools.cache
def document(name: str) -> Any:
    """What this command wrote; it is run once."""
    run = pageferry(*_COMMANDS[name])
    assert run.stdout, run
    return run.json


class Documents:
    """Each is made when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        return document(name)


REPORTS = (
    *("limited", "unlimited", "traced", "converging", "counting", "failed", "cold", "simulated"),
)


def saved(folder: Path, document: Any, name: str = "run.json") -> str:
    file = folder / name
    file.write_text(json.dumps(document))
    return str(file)
