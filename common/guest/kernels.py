"""Kernels outside this package, compiled and kept like its own (`jit`).

The key of what is kept contains a hash of every source of their package, because a kernel is
compiled from everything that it calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pageferry.common.guest import jit

_F = TypeVar("_F", bound=Callable[..., object])


def kernels_of(package: Path, *others: Path) -> Callable[[_F], _F]:
    """Make the `jit.kernel` decorator for the files of one folder.

    They may call no compiled code but that of this folder, of `common.guest`, and of `others`.

    Args:
        package: The folder; every `*.py` directly in it is hashed.
        *others: Further source files that the kernels take constants or code from.

    Returns:
        The decorator. An edit of any of these sources has the kernels compiled anew.
    """
    digest = hashlib.sha256()
    for source in (*sorted(package.glob("*.py")), *others):
        digest.update(source.read_bytes())
    scope = f"{package.name}-{digest.hexdigest()[:16]}"

    def kernel(function: _F) -> _F:
        return jit.kernel(function, scope)

    return kernel
