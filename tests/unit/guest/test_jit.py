"""Where compiled kernels are kept, and for how long."""

from __future__ import annotations

import os
import time
from pathlib import Path

from common.guest import jit


def test_kernels_that_nobody_runs_are_removed(tmp_path: Path) -> None:
    old, recent, other = (tmp_path / name for name in ("kernels-a", "kernels-b", "results"))
    for folder in (old, recent, other):
        folder.mkdir(mode=0o700)
        (folder / "file").touch()
    long_ago = time.time() - jit.UNUSED_S - 60
    for folder in (old, other):
        os.utime(folder, (long_ago, long_ago))
    jit.forget_old(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernels-b", "results"]


def test_a_link_in_their_place_is_not_followed(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir(mode=0o700)
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (root / "kernels-a").symlink_to(elsewhere)
    jit.forget_old(root, unused_s=-1)
    assert (elsewhere / "file").exists()


def test_the_folder_in_use_is_fresh() -> None:
    assert time.time() - jit.CACHE_DIR.stat().st_mtime < jit.UNUSED_S
