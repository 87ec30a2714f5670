"""For all tests: no deadlines of Hypothesis (machines that run tests are busy), quick processes."""

from hypothesis import HealthCheck, settings

from tests.support.spare import use_spare
from tests.support.tiers import FULL

_starter = use_spare()


def pytest_unconfigure() -> None:
    """No process of ours is left."""
    _starter.end()


settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("full", parent=settings.get_profile("default"), max_examples=300)
settings.load_profile("full" if FULL else "default")
