"""For all tests: Hypothesis without deadlines, because machines that run tests are busy ones."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("full", parent=settings.get_profile("default"), max_examples=300)
settings.load_profile("full" if os.environ.get("PAGEFERRY_TEST_FULL") else "default")
