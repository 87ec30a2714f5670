"""The commands of README that take one machine and loopback do what they say.

As printed with PAGEFERRY_TEST_FULL, else with less memory, a shorter life of the guest, and as fast
as it goes. The others are
listed with the reason why they are not run here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.documented import Printed, printed
from tests.support.harness import pageferry
from tests.support.tiers import FULL, some

ELSEWHERE = {
    "source": "takes a destination on another machine",
    "dest": "stays up until a source comes",
    "certs": "makes names of other machines: tests/integration/test_tls.py",
    "host": "stays up: tests/integration/test_hosts_here.py runs it as README does",
    "move": "takes two hosts: tests/integration/test_hosts_here.py",
    "net": "takes root: tests/network",
    "trace": "takes what valgrind has written: tests/integration/test_trace.py",
    "sweep": "takes a plan of the user's: tests/integration/test_sweep.py",
    "report": "takes results of the user's: tests/integration/test_html.py",
}
EXPECTED = {"commit-received:kill": (4,)}  # the destination dies about the commit


def why_not(command: Printed) -> str | None:
    """Why a command is not run here; None: it is."""
    words = command.words
    if any(word in ("[ARGS]", "ARGS…", "--help", "--version") for word in words):
        return "shows how it is called"
    if command.root:
        return "takes root: tests/network"
    if "--net" in words and "relay" not in words and words[0] != "simulate":
        return "takes root: tests/network"
    if any("FILE" in word or word.endswith(".log") or "trace:" in word for word in words):
        return "takes a file of the user's"
    return ELSEWHERE.get(words[0])


README = [command for command in printed() if command.file == "README.md"]
RUN = [command for command in README if why_not(command) is None]
LISTED = [command for command in README if why_not(command) is not None]
SAMPLE = some(RUN, 4)


def smaller(words: tuple[str, ...]) -> list[str]:
    """With less memory, a shorter life, and without a limit of its own."""
    out = list(words)
    if words[0] not in ("migrate", "compare", "predict") or FULL:
        return out
    if "--memory" in out:
        out[out.index("--memory") + 1] = "32MiB"
    else:
        out += ["--memory", "32MiB"]
    if "--max-bandwidth" not in out:
        out += ["--max-bandwidth", "200MB/s"]
    if "--delta-cache" in out:
        out[out.index("--delta-cache") + 1] = "8MiB"
    if words[0] != "predict":
        for name in ("--warmup", "--run-after"):
            out += [] if name in out else [name, "200ms"]
    return out


@pytest.mark.timeout(1800 if FULL else 300)
@pytest.mark.parametrize("command", SAMPLE, ids=str)
def test_a_documented_command_runs(command: Printed, tmp_path: Path) -> None:
    words = smaller(command.words)
    words = [str(tmp_path / word) if word.endswith((".html", ".json")) else word for word in words]
    run = pageferry(*words, timeout=1500 if FULL else 250)
    allowed = next((codes for part, codes in EXPECTED.items() if part in str(command)), (0,))
    assert run.exit_code in allowed, run.stderr
    assert "Traceback" not in run.stderr


def test_what_is_not_run_has_a_reason() -> None:
    assert len(RUN) >= 15
    for command in LISTED:
        print(f"{command}: {why_not(command)}")
