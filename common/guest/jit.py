"""How a kernel is compiled: nogil, and cached on disk under a key that cannot go stale.

numba keys its cache by the file of the outermost function only; a kernel that inlines another
file's function would go on using the old one after an edit. So the cache's directory carries a hash
of every kernel source and of the versions that compile them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import njit

UNUSED_S = 30 * 86400.0  # kernels that nobody has loaded for so long are removed

_F = TypeVar("_F", bound=Callable[..., Any])


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__}".encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _cache_dir() -> Path:
    """A directory of ours: the user's cache, or a private temporary one where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    for root in (
        Path(base) / "pageferry",
        Path(tempfile.gettempdir()) / f"pageferry-{os.getuid()}",
    ):
        path = root / f"kernels-{_fingerprint()}"
        fresh = not path.exists()
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            for folder in (root, path):
                folder.mkdir(mode=0o700, exist_ok=True)
            os.utime(path)
        except OSError:
            continue
        # Compiled code is loaded from here: it must be ours and nobody else's to write, or to put
        # another one in its place.
        if _is_ours(root) and _is_ours(path) and os.access(path, os.W_OK):
            if fresh:
                forget_old(root)
            return path
    return Path(tempfile.mkdtemp(prefix="pageferry-kernels-"))


def forget_old(root: Path, *, unused_s: float = UNUSED_S) -> None:
    """Remove the kernels of versions that nobody has run for so long; best effort."""
    for path in root.glob("kernels-*"):
        with contextlib.suppress(OSError):
            if _is_ours(path) and time.time() - path.lstat().st_mtime > unused_s:
                shutil.rmtree(path)


def _is_ours(folder: Path) -> bool:
    found = folder.lstat()
    return found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o022


CACHE_DIR = _cache_dir()
setattr(numba.config, "CACHE_DIR", str(CACHE_DIR))  # noqa: B010 (made at run time: mypy cannot see it)


# No reference counts: a kernel makes no arrays, and its caller holds on to what it passes. With
# them, every array taken out of `VcpuArrays` in a loop costs two atomic additions, and that makes
# kernels five times slower.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}


def kernel(function: _F) -> _F:
    """Compile `function` on first call, without the interpreter lock, cached on disk."""
    return cast(_F, njit(cache=True, **_OPTIONS)(function))


def inlined(function: _F) -> _F:
    """A part of kernels: compiled into each caller."""
    return cast(_F, njit(inline="always", **_OPTIONS)(function))
