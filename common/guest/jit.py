"""How a kernel is compiled: nogil, and kept on disk under a key that cannot go stale.

A kernel is compiled from all that it calls, and for one processor. So the folder's name carries a
hash of every kernel source, of the versions that compile them, and of the processor; a file's key
has the function's own source and the signature.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, cast

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba import njit
from numba.core import compiler, serialize, sigutils
from numba.core.caching import _Cache

from pageferry._version import __version__
from pageferry.common.errors import UsageError
from pageferry.common.guest.kernelstore import KernelStore, trusted

UNUSED_S: Final = 30 * 86400.0  # kernels that nobody has loaded for so long are removed

# Variables of numba's that make other code of the same source.
_SETTINGS: Final = (
    *("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT"),
    *("LOOP_VECTORIZE", "SLP_VECTORIZE", "CPU_NAME", "CPU_FEATURES"),
)

# They have no annotations.
_dumps: Any = serialize.dumps
_normalized: Any = sigutils.normalize_signature
_rebuilt: Any = compiler.CompileResult._rebuild

_F = TypeVar("_F", bound=Callable[..., Any])


# -- where -----------------------------------------------------------------------------------------


def _fingerprint() -> str:
    parts = [
        *(__version__, numba.__version__, llvmlite.__version__, np.__version__),
        *(str(sys.implementation.cache_tag), llvmlite.binding.get_host_cpu_name()),
        *(f"{name}={getattr(numba.config, name, None)}" for name in _SETTINGS),
    ]
    digest = hashlib.sha256("\n".join(parts).encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _roots() -> Iterator[Path]:
    """The user's cache, then folders of theirs among temporary files; only absolute ones."""
    home = os.path.join(os.path.expanduser("~"), ".cache")
    base = os.environ.get("XDG_CACHE_HOME", "")
    yield Path(base if os.path.isabs(base) else home) / "pageferry"
    for temporary in (os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp"):  # noqa: S108
        yield Path(temporary) / f"pageferry-{os.geteuid()}"


def _find_store() -> KernelStore:
    """All folders that may be read, up to the first that may be written to as well."""
    readable: list[Path] = []
    name = f"kernels-{_fingerprint()}"
    for root in _roots():
        path = root / name
        if not root.is_absolute() or path in readable:
            continue
        fresh = _make(root, path)
        if not all(_is_folder(folder) for folder in (root, path)):
            continue
        readable.append(path)
        if all(_is_folder(folder, ours=True) and _writable(folder) for folder in (root, path)):
            if fresh:
                forget_old(root)
            return KernelStore(tuple(readable), path)
    return KernelStore(tuple(readable), None)


def _make(root: Path, path: Path) -> bool:
    """Best effort; whether the folder was not there before."""
    fresh = False
    with contextlib.suppress(OSError):
        root.parent.mkdir(parents=True, exist_ok=True)
        for folder in (root, path):
            fresh = not folder.exists()
            folder.mkdir(mode=0o700, exist_ok=True)
        os.utime(path)  # it is in use
    return fresh


def _is_folder(path: Path, *, ours: bool = False) -> bool:
    """Whether it is one in which nobody but this user and root (ours: nor root) can put code."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and trusted(found, ours=ours)


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def forget_old(root: Path, *, unused_s: float = UNUSED_S) -> None:
    """Remove the kernels of versions that nobody has run for so long; best effort."""
    for path in root.glob("kernels-*"):
        with contextlib.suppress(OSError):
            if _is_folder(path, ours=True) and time.time() - path.lstat().st_mtime > unused_s:
                shutil.rmtree(path)


STORE: Final = _find_store()


# -- what numba asks -------------------------------------------------------------------------------

_announce: list[Callable[[], None]] = []


@contextlib.contextmanager
def before_compiling(announce: Callable[[], None]) -> Iterator[None]:
    """Meanwhile `announce` is called before the first kernel that has to be compiled, if any."""
    _announce.append(announce)
    try:
        yield
    finally:
        if announce in _announce:
            _announce.remove(announce)


def _about_to_compile() -> None:
    told, _announce[:] = list(_announce), []
    for announce in told:
        announce()


@functools.cache
def _source(file: str) -> bytes:
    """A digest of a kernel's own file, whose constants are compiled into it."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).digest()
    except OSError:  # not there: the package's version has to do
        return b""


def _constants(function: Callable[..., Any]) -> str:
    """Constants that it takes from other files, which are compiled into it."""
    known = getattr(function, "__globals__")  # noqa: B009 - callables have none for mypy
    names = getattr(function, "__code__").co_names  # noqa: B009
    plain = (bool, int, float, str, bytes)
    return repr([(name, known[name]) for name in names if isinstance(known.get(name), plain)])


class KernelCache(_Cache):
    """What numba keeps its compiled code of one function in. scope: of whatever it calls."""

    def __init__(self, function: Callable[..., Any], scope: str) -> None:
        code: Any = getattr(function, "__code__")  # noqa: B009
        self._name = f"{function.__module__}.{function.__qualname__}".replace("<locals>", "-")
        digest = hashlib.sha256(code.co_code + _source(code.co_filename))
        digest.update(_constants(function).encode())
        if cells := getattr(function, "__closure__", None):
            digest.update(_dumps(tuple(cell.cell_contents for cell in cells)))
        self._function = "\n".join((self._name, scope, digest.hexdigest()))
        self._enabled = True

    @property
    def cache_path(self) -> str:
        """Its folder."""
        return str(STORE.folder)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What has been compiled for that signature, or None."""
        target_context.refresh()
        data = None
        if self._enabled:
            key = self._key(sig, target_context.codegen())
            data = STORE.load(self._name, key)
        if data is not None:
            try:
                return self._rebuild(sig, target_context, data)
            except Exception as error:  # noqa: BLE001 - whatever numba and LLVM find in it
                STORE.damaged(self._name, key, f"can't be loaded ({type(error).__name__})")
        _about_to_compile()
        return None

    @staticmethod
    def _rebuild(sig: Any, target_context: Any, data: bytes) -> Any:
        payload = pickle.loads(data)  # noqa: S301 - the store has looked at who wrote it
        result = _rebuilt(target_context, *payload)
        arguments, _ = _normalized(sig)
        if tuple(result.signature.args) != tuple(arguments):
            raise TypeError(f"compiled for {result.signature}")
        return result

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what has been compiled for that signature."""
        if not self._enabled or data.lifted or data.library.has_dynamic_globals:
            return  # the latter are addresses of this process
        key = self._key(sig, data.codegen)
        STORE.save(self._name, key, _dumps(data._reduce()))

    def _key(self, sig: Any, codegen: Any) -> str:
        """All that the code depends on, beside what the folder's name has: processor, signature."""
        arguments, _ = _normalized(sig)
        return "\n".join((self._function, repr(codegen.magic_tuple()), repr(arguments)))

    def enable(self) -> None:
        """As it is from the start."""
        self._enabled = True

    def disable(self) -> None:
        """Neither load nor save."""
        self._enabled = False

    def flush(self) -> None:
        """Nothing waits here."""


# -- kernels ---------------------------------------------------------------------------------------

# No reference counts: a kernel makes no arrays, and its caller holds on to what it passes. With
# them, every array taken out of `VcpuArrays` in a loop costs two atomic additions, and that makes
# kernels five times slower.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}


def kernel(function: _F, scope: str = "") -> _F:
    """Compile `function` on first call, without the interpreter lock, kept on disk.

    scope: of what it calls and takes constants from, beside this package and its own file.
    """
    if _not_compiling():
        return cast(_F, _uncompiled)
    dispatcher = njit(**_OPTIONS)(function)
    dispatcher._cache = KernelCache(function, scope)
    return cast(_F, dispatcher)


def _not_compiling() -> bool:
    return bool(getattr(numba.config, "DISABLE_JIT"))  # noqa: B009 - made at run time


def _uncompiled(*_: object) -> NoReturn:
    raise UsageError(
        "numba is told not to compile, and without that there is no guest:"
        " unset NUMBA_DISABLE_JIT, or disable_jit in .numba_config.yaml"
    )


def must_compile() -> None:
    """Raise `UsageError` where kernels can't run; as each of them does when it is called."""
    if _not_compiling():
        _uncompiled()


def inlined(function: _F) -> _F:
    """A part of kernels: compiled into each caller."""
    return cast(_F, njit(inline="always", **_OPTIONS)(function))
