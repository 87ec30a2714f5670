"""What mypy knows of this tree since it was last run, for another run that must not change it."""

from __future__ import annotations

import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]


def copy_known_types(folder: Path) -> Path:
    """Copy it to `.mypy_cache` there; return that folder, which is not there if nothing is known.

    Only a run with the same options can use it. One that used it where it is would write into what
    another test copies.
    """
    known, there = HERE / ".mypy_cache", folder / ".mypy_cache"
    if known.is_dir():
        shutil.copytree(known, there, ignore=shutil.ignore_patterns("users"))
    return there
