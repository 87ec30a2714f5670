"""All agents of these tests, and both of a test's own process, run in asyncio's debug mode.

What asyncio has to say about a task or an exception that nobody looks at fails a test: in the
processes that it starts by `harness.Run` and `file_agent`, in its own by the log.
"""

from __future__ import annotations

import gc
import linecache
import logging
import os
from collections.abc import Iterator

import pytest

from tests.support.harness import neglected

os.environ["PYTHONASYNCIODEBUG"] = "1"
# Debug mode asks for each callback whether any file on the stack has changed: none does meanwhile.
linecache.checkcache = lambda *_: None


@pytest.fixture(autouse=True, scope="session")
def _what_is_loaded_stays() -> None:
    """Nobody looks through all that has been imported after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_neglected(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception of this process is left for asyncio to report."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # that something took long is no news
    yield
    gc.collect()
    for record in caplog.get_records("call"):
        assert record.name != "asyncio" or not neglected(record.getMessage()), record.getMessage()
