"""The compiled kernels that tests have, for another cache."""

from __future__ import annotations

import shutil
from pathlib import Path

from pageferry.common.guest import jit


def copy_kernels(cache: Path, *, lacking: str = "", only: str = "*") -> None:
    """Copy them to where a process finds them whose XDG_CACHE_HOME is `cache`.

    lacking: a pattern of files that are left out. only: one of those that are copied.
    """
    warm = jit.STORE.folder
    assert warm is not None
    there = cache / "pageferry" / warm.name
    there.mkdir(parents=True, mode=0o700)
    left_out = {*warm.glob(lacking)} if lacking else set()
    for path in {*warm.glob(only)} - left_out:
        shutil.copy2(path, there)
