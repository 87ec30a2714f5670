"""Which tests run: a covering sample by default, whole matrices with `scripts/test --full`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, TypeVar

import pytest

_T = TypeVar("_T")

FULL: Final = bool(os.environ.get("PAGEFERRY_TEST_FULL"))
full_only = pytest.mark.skipif(not FULL, reason="a sample runs: scripts/test --full runs all")


def some(cases: Sequence[_T], every: int) -> Sequence[_T]:
    """Of cases that are alike each `every`th, from the first on; all with --full."""
    return cases if FULL else cases[::every]
