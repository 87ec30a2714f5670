"""Whatever a thread raises reaches the session, which ends in one line, soon, at both ends."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import re
import threading
from pathlib import Path
from typing import Final

import pytest

from pageferry.commands.certs import certs
from pageferry.common.errors import PageferryError
from pageferry.common.process.threads import WatchedThread
from pageferry.net.relay import RelayLink
from pageferry.net.shape import Shape
from tests.support.command_line import HERE, Run
from tests.support.commands import Agent, agent
from tests.support.dying_threads import WORDS
from tests.support.tiers import some

SOON_S: Final = 60.0  # a run that hung would last for ever; a destination waits 30 s for a question
GUEST: Final = (
    *("--memory", "16MiB", "--json", "-", "--recover-timeout", "2s"),
    *("--workload", "uniform:working-set=8MiB,rate=20MB/s"),
)


def _options(warmup: str = "100ms", run_after: str = "200ms") -> tuple[str, ...]:
    return ("--warmup", warmup, "--run-after", run_after)


SLOWLY: Final = ("--strategy", "post-copy", "--max-bandwidth", "1MB/s", *_options())
POST_COPY: Final = ("--strategy", "post-copy", "--max-bandwidth", "40MB/s", *_options())
UNLIMITED: Final = ("--strategy", "pre-copy", "--max-bandwidth", "unlimited")
PRE_COPY: Final = (*UNLIMITED, *_options())
# Whether it had begun to run by then is chance, in some of them.
GOES_ON: Final = (1, "the guest goes on at the source|no guest had been started")
LOST: Final = (4, "the guest is lost")
ENDED: Final = (4, "its guest ended with it")
MOVED: Final = (3, "the guest has moved to the destination")
# Which thread of which agent, how the guest travels, and how the source ends then.
CASES: Final = [
    ("source", "bulk-sender", PRE_COPY, GOES_ON),
    ("source", "bulk-keeper", (*UNLIMITED, *_options("5s")), GOES_ON),
    ("source", "squeeze", (*PRE_COPY, "--compress", "lz4"), GOES_ON),
    ("source", "log-tracker", PRE_COPY, GOES_ON),
    ("source", "kernel-tracker", (*PRE_COPY, "--dirty-tracker", "kernel"), GOES_ON),
    ("source", "probe", (*PRE_COPY, "--predict"), GOES_ON),
    ("source", "control-heart", (*UNLIMITED, *_options("60s")), GOES_ON),
    ("source", "vcpu", (*UNLIMITED, *_options("60s")), ENDED),
    ("source", "page-server", POST_COPY, GOES_ON),
    ("source", "pusher", POST_COPY, LOST),
    ("source", "tls-urgent", POST_COPY, GOES_ON),
    ("source", "tls-urgent-later", POST_COPY, LOST),
    ("dest", "bulk-receiver", PRE_COPY, GOES_ON),
    ("dest", "bulk-receiver-later", PRE_COPY, GOES_ON),
    ("dest", "staging", POST_COPY, LOST),
    ("dest", "destination-worker", PRE_COPY, GOES_ON),
    ("dest", "fault-handler-at-start", POST_COPY, GOES_ON),
    ("dest", "fault-handler", POST_COPY, LOST),
    ("dest", "vcpu", (*UNLIMITED, *_options(run_after="60s")), MOVED),
    ("dest", "vcpu", SLOWLY, LOST),
    ("dest", "tls-urgent", POST_COPY, GOES_ON),
]


def _started(
    role: str, broken: str | None, *arguments: str
) -> contextlib.AbstractContextManager[Agent]:
    """That agent, of which a thread of that kind dies."""
    words = [role, *arguments]
    if broken is None:
        return agent(*words)
    return agent(*words, module=("tests.support.dying_threads", broken))


def _run(kind: str, who: str, options: tuple[str, ...], keys: Path | None) -> tuple[Run, Run]:
    """How the destination, and the source, ended."""
    secure = [("--tls", str(keys / name)) if keys else () for name in ("dest", "source")]
    patched = [kind if who == role else None for role in ("dest", "source")]
    listen = "--listen", "127.0.0.1:0", "--once", *secure[0]
    with _started("dest", patched[0], *listen) as dest:
        port = dest.wait_said(r"listening on \S+:(\d+)", 30)[1]
        to = "--to", f"localhost:{port}", *secure[1], *GUEST, *options
        with _started("source", patched[1], *to) as source:
            source_run = source.end(SOON_S)
        return dest.end(SOON_S), source_run


SAMPLE = some(CASES, 3)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    assert certs(folder) == 0
    return folder


@pytest.mark.parametrize(
    ("who", "kind", "options", "end"),
    SAMPLE,
    ids=[f"{who}-{kind}" for who, kind, *_ in SAMPLE],
)
def test_it_ends_in_one_line(
    who: str, kind: str, options: tuple[str, ...], end: tuple[int, str], keys: Path
) -> None:
    dest, source = _run(kind, who, options, keys if "tls" in kind else None)
    said = dest if who == "dest" else source
    lines = [line for line in said.lines if WORDS in line]
    assert len(lines) == 1, (dest, source)
    for run in (dest, source):
        assert not re.search("Traceback|second line", run.stderr), run.stderr
    code, words = end
    assert (source.exit_code, bool(re.search(words, source.complaint))) == (code, True), (
        dest,
        source,
    )
    assert dest.exit_code in (1, 3, 4, 130), dest


def test_progress_that_fails_is_said_and_the_migration_goes_on() -> None:
    options = ("--memory", "16MiB", "--run-after", "7s", "--progress", "plain", "--warmup", "0s")
    with agent("migrate", *options, module=("tests.support.dying_threads", "progress")) as run:
        ended = run.end(SOON_S)
    assert ended.exit_code == 0, ended
    assert "Traceback" not in ended.stderr
    assert sum(WORDS in line for line in ended.lines) == 1


def test_a_relay_whose_thread_dies_says_so_and_can_be_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[PageferryError] = []
    heard = threading.Event()

    def tell(error: PageferryError) -> None:
        told.append(error)
        heard.set()

    async def fail(self: RelayLink) -> None:
        self._passable, self._ended = asyncio.Event(), asyncio.Event()
        self._started.set()
        await asyncio.sleep(0.05)
        raise ZeroDivisionError(WORDS)

    monkeypatch.setattr(RelayLink, "_serve", fail)
    relay = RelayLink(Shape(), tell)
    assert heard.wait(10)
    relay.close()
    assert f"unexpected ZeroDivisionError: {WORDS}" in str(told[0])


def test_a_relay_that_cannot_begin_is_an_error_and_no_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_self: RelayLink) -> None:
        raise ZeroDivisionError(WORDS)

    monkeypatch.setattr(RelayLink, "_serve", fail)
    with pytest.raises(PageferryError, match=WORDS):
        RelayLink(Shape())


@pytest.mark.parametrize("error", [ValueError("one\ntwo"), SystemExit(3), PageferryError("ours")])
def test_every_exception_is_handed_over_once(error: BaseException) -> None:
    def work() -> None:
        raise error

    told: list[PageferryError] = []
    thread = WatchedThread(work, "one", told.append)
    thread.start()
    thread.join()
    assert thread.error is error
    assert "\n" not in str(told[0])
    with pytest.raises(PageferryError):
        thread.raise_failure()


def test_no_thread_is_started_that_nobody_watches() -> None:
    # What enters a namespace may use nothing but the standard library, and raises what it raised.
    # The last resort ends the process, whatever it raises. What a function of the API raises on its
    # thread is raised again where it was called.
    allowed = {
        "common/process/threads.py",
        "common/process/last_resort.py",
        "pageferry/net/enter.py",
        "pageferry/api/running.py",
    }
    found = set()
    for package in ("common", "source_agent", "dest_agent", "pageferry"):
        for path in (HERE / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                    ("threading.Thread", "start_new_thread", "threading.Timer")
                ):
                    found.add(str(path.relative_to(HERE)))
    assert found <= allowed, found
