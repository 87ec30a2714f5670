"""What numba lacks: libc calls without the interpreter lock, fences, prefetches, whole-line copies.

Every call into libc is also a point that the compiler moves no load or store across, which is what
makes control words that another thread writes visible; `fence` says it to the processor too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.types import ExternalFunction
from numba.core.typing import signature
from numba.extending import intrinsic
from numpy.typing import NDArray

from common.guest.jit import kernel

_CLOCK_MONOTONIC: Final = 1
_CLOCK_THREAD_CPUTIME_ID: Final = 3
_POLLIN: Final = 1
_INT32: Final = ir.IntType(32)
_INT64: Final = ir.IntType(64)
_BYTE_POINTER: Final = ir.IntType(8).as_pointer()

_clock_gettime: Any = ExternalFunction(
    "clock_gettime", signature(types.int32, types.int32, types.int64)
)
_ppoll: Any = ExternalFunction(
    "ppoll", signature(types.int32, types.int64, types.int64, types.int64, types.int64)
)
_read: Any = ExternalFunction("read", signature(types.int64, types.int32, types.int64, types.int64))
_write: Any = ExternalFunction(
    "write", signature(types.int64, types.int32, types.int64, types.int64)
)

# Words of the scratch array that libc calls exchange data through.
SCRATCH_WORDS: Final = 16
_TIMESPEC: Final = 0
_POLLFD: Final = 2
_VALUE: Final = 3


@kernel
def _clock_ns(scratch: NDArray[np.int64], clock: int) -> int:
    _clock_gettime(clock, scratch.ctypes.data)
    return scratch[_TIMESPEC] * 1_000_000_000 + scratch[_TIMESPEC + 1]  # type: ignore[no-any-return]


@kernel
def monotonic_ns(scratch: NDArray[np.int64]) -> int:
    """CLOCK_MONOTONIC, as `time.monotonic_ns` has it."""
    return _clock_ns(scratch, _CLOCK_MONOTONIC)


@kernel
def thread_cpu_ns(scratch: NDArray[np.int64]) -> int:
    """CPU time of the calling thread, ns."""
    return _clock_ns(scratch, _CLOCK_THREAD_CPUTIME_ID)


@kernel
def wait_for(scratch: NDArray[np.int64], fd: int, timeout_ns: int) -> None:
    """Sleep until the eventfd `fd` is signalled (and clear it), or for `timeout_ns`."""
    scratch[_TIMESPEC] = timeout_ns // 1_000_000_000
    scratch[_TIMESPEC + 1] = timeout_ns % 1_000_000_000
    scratch[_POLLFD] = fd | (_POLLIN << 32)  # struct pollfd: int fd, short events, short revents
    base = scratch.ctypes.data
    if _ppoll(base + 8 * _POLLFD, 1, base + 8 * _TIMESPEC, 0) > 0:
        _read(fd, base + 8 * _VALUE, 8)


@kernel
def signal(scratch: NDArray[np.int64], fd: int) -> None:
    """Add one to the eventfd `fd`."""
    scratch[_VALUE] = 1
    _write(fd, scratch.ctypes.data + 8 * _VALUE, 8)


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _copy_line(_context: Any, dst: Any, to: Any, src: Any, at: Any) -> Any:
    """`dst[to : to + 8] = src[at : at + 8]` of uint64 arrays, as one vector move."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = ir.VectorType(_INT64, 8).as_pointer()
        target = builder.bitcast(_element(context, builder, sig.args[0], args[0], args[1]), vector)
        source = builder.bitcast(_element(context, builder, sig.args[2], args[2], args[3]), vector)
        builder.store(builder.load(source, align=8), target, align=8)
        return context.get_dummy_value()

    return types.void(dst, types.int64, src, types.int64), codegen


def _prefetch(_context: Any, array: Any, index: Any) -> Any:
    """Bring the cache line of `array[index]` near."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.bitcast(
            _element(context, builder, sig.args[0], args[0], args[1]), _BYTE_POINTER
        )
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [_BYTE_POINTER],
            ir.FunctionType(ir.VoidType(), [_BYTE_POINTER, _INT32, _INT32, _INT32]),
        )
        # for writing, keep in all levels, data cache
        builder.call(function, [pointer, *(ir.Constant(_INT32, value) for value in (1, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


def _fence(_context: Any) -> Any:
    """No load or store of this thread moves across, in either direction."""

    def codegen(context: Any, builder: Any, _sig: Any, _args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


def _peek_byte(_context: Any, address: Any, index: Any) -> Any:
    """The byte at `address + index`; later loads stay behind it."""

    def codegen(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(builder.add(args[0], args[1]), _BYTE_POINTER)
        value = builder.load_atomic(pointer, "acquire", 1)
        return builder.zext(value, _INT64)

    return types.int64(types.int64, types.int64), codegen


def _intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    return cast(Callable[..., Any], intrinsic(function))


copy_line = _intrinsic(_copy_line)
prefetch = _intrinsic(_prefetch)
fence = _intrinsic(_fence)
peek_byte = _intrinsic(_peek_byte)
