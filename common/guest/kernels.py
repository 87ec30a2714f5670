"""Kernels that live outside this package: compiled and kept like its own (`jit`).

What is kept of them carries a hash of every source of their package, because a kernel is compiled
from all that it calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pageferry.common.guest import jit

_F = TypeVar("_F", bound=Callable[..., object])


def kernels_of(package: Path, *others: Path) -> Callable[[_F], _F]:
    """`jit.kernel` for the files of one directory.

    They call no compiled code but their own and that of `common.guest`; `others` are further
    sources that they take constants from.
    """
    digest = hashlib.sha256()
    for source in (*sorted(package.glob("*.py")), *others):
        digest.update(source.read_bytes())
    scope = f"{package.name}-{digest.hexdigest()[:16]}"

    def kernel(function: _F) -> _F:
        return jit.kernel(function, scope)

    return kernel
