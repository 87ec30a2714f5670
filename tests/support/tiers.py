"""Which tests run: a covering sample by default, whole matrices with `scripts/test --full`."""

from __future__ import annotations

import os
from typing import Final

import pytest

FULL: Final = bool(os.environ.get("PAGEFERRY_TEST_FULL"))
full_only = pytest.mark.skipif(not FULL, reason="a sample runs: scripts/test --full runs all")
