"""For all tests: no deadlines of Hypothesis (machines that run tests are busy), quick processes."""

from itertools import chain, groupby

import pytest
from hypothesis import HealthCheck, settings

from tests.support.spare import use_spare
from tests.support.tiers import FULL

_starter = use_spare()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal files out to workers, so that each begins with tests that wait and ends with short ones.

    xdist cuts the list into as many pieces as there are workers. Whoever is done takes from the end
    of another's piece, where unit tests are: nobody is left with half a minute of waiting.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    files = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
    items[:] = chain.from_iterable(chain(*files[first::workers]) for first in range(workers))


def pytest_unconfigure() -> None:
    """No process of ours is left."""
    _starter.end()


settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("full", parent=settings.get_profile("default"), max_examples=300)
settings.load_profile("full" if FULL else "default")
