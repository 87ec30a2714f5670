"""How a kernel is compiled: nogil, and kept on disk under a key that cannot go stale.

A kernel is compiled from everything that it calls, and for one processor. So the folder's name
contains a hash of every kernel source, of the versions that compile them, and of the processor; a
file's key contains the function's own source and the signature.
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

UNUSED_S: Final = 30 * 86400.0  # kernels that nobody has used for so long are removed

# Settings of numba that change the code made from the same source.
_SETTINGS: Final = (
    *("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT"),
    *("LOOP_VECTORIZE", "SLP_VECTORIZE", "CPU_NAME", "CPU_FEATURES"),
)

# numba's functions have no annotations.
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
    """Yield the user's cache, then folders of theirs for temporary files; some may be relative."""
    home = os.path.join(os.path.expanduser("~"), ".cache")
    base = os.environ.get("XDG_CACHE_HOME", "")
    yield Path(base if os.path.isabs(base) else home) / "pageferry"
    for temporary in (os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp"):  # noqa: S108
        yield Path(temporary) / f"pageferry-{os.geteuid()}"


def _find_store() -> KernelStore:
    """Find all folders that may be read, up to the first that may be written to as well."""
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
    """Make the folder where possible; return whether it was not there before."""
    fresh = False
    with contextlib.suppress(OSError):
        root.parent.mkdir(parents=True, exist_ok=True)
        for folder in (root, path):
            fresh = not folder.exists()
            folder.mkdir(mode=0o700, exist_ok=True)
        os.utime(path)  # it is in use
    return fresh


def _is_folder(path: Path, *, ours: bool = False) -> bool:
    """Check that only this user and root (ours: not even root) can put code into this folder."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and trusted(found, ours=ours)


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def forget_old(root: Path, *, unused_s: float = UNUSED_S) -> None:
    """Remove the kernels of versions that nobody has run for a long time, where that is possible.

    Args:
        root: The folder that holds a folder `kernels-*` for each version.
        unused_s: Remove those whose folder was last used (its mtime) more than so many seconds ago.
    """
    for path in root.glob("kernels-*"):
        with contextlib.suppress(OSError):
            if _is_folder(path, ours=True) and time.time() - path.lstat().st_mtime > unused_s:
                shutil.rmtree(path)


STORE: Final = _find_store()


# -- what numba asks -------------------------------------------------------------------------------

_announce: list[Callable[[], None]] = []


@contextlib.contextmanager
def before_compiling(announce: Callable[[], None]) -> Iterator[None]:
    """Call `announce` before the first kernel that has to be compiled in this block, if any.

    Args:
        announce: Called at most once, on the thread that compiles.

    Yields:
        Nothing.
    """
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
    """Compute a digest of a kernel's own file, whose constants are compiled into it."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).digest()
    except OSError:  # no source: the package's version has to do
        return b""


def _constants(function: Callable[..., Any]) -> str:
    """List the constants that it takes from other files, which are compiled into it."""
    known = getattr(function, "__globals__")  # noqa: B009 - callables have none for mypy
    names = getattr(function, "__code__").co_names  # noqa: B009
    plain = (bool, int, float, str, bytes)
    return repr([(name, known[name]) for name in names if isinstance(known.get(name), plain)])


class KernelCache(_Cache):
    """The place where numba keeps the compiled code of one function.

    numba calls the methods.

    Args:
        function: The kernel's Python function.
        scope: Identifies the sources of whatever it calls; a part of the key.
    """

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
        """The folder, as text."""
        return str(STORE.folder)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load what has been compiled for a signature.

        Code that can't be loaded is reported to the user and counts as missing.

        Args:
            sig: The signature, or the argument types.
            target_context: numba's context of the processor to compile for.

        Returns:
            numba's `CompileResult`, or None: it has to be compiled.
        """
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
        """Keep what has been compiled for a signature.

        Args:
            sig: The signature, or the argument types.
            data: numba's `CompileResult`. One that contains addresses of this process is not kept.
        """
        if not self._enabled or data.lifted or data.library.has_dynamic_globals:
            return  # dynamic globals are addresses in this process
        key = self._key(sig, data.codegen)
        STORE.save(self._name, key, _dumps(data._reduce()))

    def _key(self, sig: Any, codegen: Any) -> str:
        """Make the key: all that the code depends on and the folder's name lacks.

        That is the function, the processor and the signature.
        """
        arguments, _ = _normalized(sig)
        return "\n".join((self._function, repr(codegen.magic_tuple()), repr(arguments)))

    def enable(self) -> None:
        """Load and save again, as at the start."""
        self._enabled = True

    def disable(self) -> None:
        """Neither load nor save any more."""
        self._enabled = False

    def flush(self) -> None:
        """Do nothing: nothing waits to be written."""


# -- kernels ---------------------------------------------------------------------------------------

# No reference counts: a kernel makes no arrays, and its caller keeps what it passes alive. With
# them, every array taken out of `VcpuArrays` in a loop costs two atomic additions, which makes
# kernels five times slower.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}


def kernel(function: _F, scope: str = "") -> _F:
    """Compile a function on its first call, to run without the interpreter lock, and keep the code.

    Args:
        function: What numba can compile. It must not create arrays.
        scope: Identifies what it calls and takes constants from, beside this package and its own
            file.

    Returns:
        The compiled function. Where numba is told not to compile, one that raises `UsageError`.
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
    """Check that kernels can run here.

    Raises:
        UsageError: numba is told not to compile; every kernel raises it, too, when it is called.
    """
    if _not_compiling():
        _uncompiled()


def inlined(function: _F) -> _F:
    """Make a function a part of kernels: it is compiled into each caller.

    Args:
        function: What numba can compile. It must not create arrays.

    Returns:
        The function for kernels to call.
    """
    return cast(_F, njit(inline="always", **_OPTIONS)(function))
