"""For all tests: no deadlines of Hypothesis (machines that run tests are busy), quick processes."""

from itertools import chain, groupby
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.spare import SILENT, use_spare
from tests.support.tiers import FULL

UNIT = Path(__file__).parent / "unit"

_starter = use_spare()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal tests out to workers, so that each begins with those that wait and ends with unit tests.

    xdist gives each worker as many tests, from the list's beginning to its end. Whoever is done
    takes some from the end of another's, where they are short: nobody is left waiting alone.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    short = [item for item in items if UNIT in item.path.parents]
    others = [item for item in items if UNIT not in item.path.parents]
    files = [list(group) for _, group in groupby(others, key=lambda item: item.path)]
    left, dealt = len(items), list[pytest.Item]()
    for worker in range(workers):
        share = left // (workers - worker)
        waiting = list(chain.from_iterable(files[worker::workers]))
        more = max(share - len(waiting), 0)
        dealt += [*waiting, *short[:more]]
        del short[:more]
        left -= share
    items[:] = [*dealt, *short]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Forget what an earlier session noted."""
    if not hasattr(session.config, "workerinput"):
        SILENT.unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which spare processes did not answer: their tests went on with ones loaded anew."""
    if SILENT.exists():
        terminalreporter.section("spare processes that did not answer")
        terminalreporter.write(SILENT.read_text())


def pytest_unconfigure() -> None:
    """No process of ours is left."""
    _starter.end()


settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("full", parent=settings.get_profile("default"), max_examples=300)
settings.load_profile("full" if FULL else "default")
