"""The stream's checksum for compiled threads: xxhash's own code, called without the interpreter.

Compiled code finds the function by its name among the symbols of this process, so that kernels that
call it can be kept on disk. It is exported by the extension module (by all wheels since 3.4), or by
the library that the module is linked with.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import llvmlite.binding
import xxhash._xxhash
from numba import types
from numba.core.types import ExternalFunction
from numba.core.typing.templates import signature

from pageferry.common.errors import UsageError

_NAME: Final = "XXH3_64bits"


def _publish() -> bool:
    """Make the function known to compiled code; return False if this build of xxhash hides it."""
    try:
        function = getattr(ctypes.CDLL(xxhash._xxhash.__file__), _NAME)
        found = True
    except (OSError, AttributeError):
        function, found = ctypes.CDLL(None).abort, False  # a name is needed, it is never called
    address = ctypes.cast(function, ctypes.c_void_p).value
    llvmlite.binding.add_symbol(_NAME, address)
    return found


_AVAILABLE: Final = _publish()

# uint64 (address, bytes): XXH3-64, as `xxhash.xxh3_64_intdigest` computes it.
xxh3_64: Final[Any] = ExternalFunction(
    _NAME,
    signature(types.uint64, types.int64, types.int64),  # type: ignore[no-untyped-call]
)


def require_checksum() -> None:
    """Check that compiled code can compute checksums.

    Raises:
        UsageError: This build of xxhash does not export the function.
    """
    if not _AVAILABLE:
        raise UsageError(
            f"this build of xxhash ({xxhash.VERSION}) does not export {_NAME}, which post-copy"
            " needs: install the wheel of PyPI, or use --no-checksum"
        )
