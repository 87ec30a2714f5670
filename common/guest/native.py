"""What numba lacks: libc calls without the interpreter lock, fences, prefetches, whole-line copies.

The compiler moves no load or store across a call into libc, which is what makes control words
visible that another thread writes; `fence` says it to the processor, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.types import ExternalFunction
from numba.core.typing.templates import signature
from numba.extending import intrinsic
from numpy.typing import NDArray

from pageferry.common.guest.jit import inlined, kernel

_CLOCK_MONOTONIC: Final = 1
_CLOCK_THREAD_CPUTIME_ID: Final = 3
_POLLIN: Final = 1
_INT32: Final = ir.IntType(32)
_INT64: Final = ir.IntType(64)
_VECTOR8: Final = ir.VectorType(_INT64, 8)
_BYTE_POINTER: Final = ir.IntType(8).as_pointer()

_i32: Final = types.int32
_i64: Final = types.int64


def _libc(name: str, *result_and_arguments: Any) -> Any:
    return ExternalFunction(name, signature(*result_and_arguments))  # type: ignore[no-untyped-call]


_clock_gettime: Final = _libc("clock_gettime", _i32, _i32, _i64)
_ppoll: Final = _libc("ppoll", _i32, _i64, _i64, _i64, _i64)
_read: Final = _libc("read", _i64, _i32, _i64, _i64)
_write: Final = _libc("write", _i64, _i32, _i64, _i64)

# Layout of the scratch array through which libc calls exchange data.
SCRATCH_WORDS: Final = 16
_TIMESPEC: Final = 0
_POLLFD: Final = 2
_VALUE: Final = 3


@inlined
def signed(x: Any) -> int:
    """Convert to int64, since numba makes a float of signed and unsigned mixed.

    Args:
        x: An integer of any numpy type; 2**63 and above wrap.

    Returns:
        The int64 with the same bits.
    """
    return np.int64(x)  # type: ignore[return-value]


@kernel
def _clock_ns(scratch: NDArray[np.int64], clock: int) -> int:
    _clock_gettime(clock, scratch.ctypes.data)
    return scratch[_TIMESPEC] * 1_000_000_000 + scratch[_TIMESPEC + 1]  # type: ignore[no-any-return]


@kernel
def monotonic_ns(scratch: NDArray[np.int64]) -> int:
    """Read CLOCK_MONOTONIC, as `time.monotonic_ns` does.

    Args:
        scratch: int64[SCRATCH_WORDS] of the calling thread alone; overwritten.

    Returns:
        ns.
    """
    return _clock_ns(scratch, _CLOCK_MONOTONIC)


@kernel
def thread_cpu_ns(scratch: NDArray[np.int64]) -> int:
    """Read the CPU time that the calling thread has used.

    Args:
        scratch: int64[SCRATCH_WORDS] of the calling thread alone; overwritten.

    Returns:
        ns.
    """
    return _clock_ns(scratch, _CLOCK_THREAD_CPUTIME_ID)


@kernel
def wait_for(scratch: NDArray[np.int64], fd: int, timeout_ns: int) -> None:
    """Sleep until an eventfd is signalled, and clear it, or until the time is up.

    A signal handler's interruption ends the sleep, too.

    Args:
        scratch: int64[SCRATCH_WORDS] of the calling thread alone; overwritten.
        fd: The eventfd.
        timeout_ns: The longest sleep, not negative.
    """
    scratch[_TIMESPEC] = timeout_ns // 1_000_000_000
    scratch[_TIMESPEC + 1] = timeout_ns % 1_000_000_000
    scratch[_POLLFD] = fd | (_POLLIN << 32)  # struct pollfd: int fd, short events, short revents
    base = scratch.ctypes.data
    if _ppoll(base + 8 * _POLLFD, 1, base + 8 * _TIMESPEC, 0) > 0:
        _read(fd, base + 8 * _VALUE, 8)


@kernel
def signal(scratch: NDArray[np.int64], fd: int) -> None:
    """Add one to an eventfd, which wakes whoever polls it.

    Args:
        scratch: int64[SCRATCH_WORDS] of the calling thread alone; overwritten.
        fd: The eventfd.
    """
    scratch[_VALUE] = 1
    _write(fd, scratch.ctypes.data + 8 * _VALUE, 8)


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _pointer8(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    element = _element(context, builder, array_type, array, index)
    return builder.bitcast(element, _VECTOR8.as_pointer())


def _vector8(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.load(_pointer8(context, builder, array_type, array, index), align=8)


def _splat8(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR8, ir.Undefined), value, _INT32(0))
    return builder.shuffle_vector(
        one, ir.Constant(_VECTOR8, ir.Undefined), ir.Constant(ir.VectorType(_INT32, 8), [0] * 8)
    )


def _copy_line(_context: Any, dst: Any, _to: Any, src: Any, _at: Any) -> Any:
    """Copy a line as one vector move: `dst[to : to + 8] = src[at : at + 8]`.

    In kernels: copy_line(dst, to, src, at), both arrays uint64.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        line = _vector8(context, builder, sig.args[2], args[2], args[3])
        target = _pointer8(context, builder, sig.args[0], args[0], args[1])
        builder.store(line, target, align=8)
        return context.get_dummy_value()

    return types.void(dst, types.int64, src, types.int64), codegen


def _find8(_context: Any, array: Any, _at: Any, _key: Any) -> Any:
    """Find which of `array[at : at + 8]` equals `key` except for its seven low bits.

    In kernels: find8(array, at, key), from 0 to 7; 8: none.

    Eight comparisons at once: where in a set a line is cannot be predicted, so a loop over the ways
    costs more in mispredicted branches than in comparisons.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row = _vector8(context, builder, sig.args[0], args[0], args[1])
        differs = builder.xor(row, _splat8(builder, args[2]))
        limit = ir.Constant(_VECTOR8, [ir.Constant(_INT64, 128)] * 8)
        hits = builder.bitcast(builder.icmp_unsigned("<", differs, limit), ir.IntType(8))
        first = builder.cttz(hits, ir.Constant(ir.IntType(1), 0))
        return builder.zext(first, _INT64)

    return types.int64(array, types.int64, types.uint64), codegen


def _push8(_context: Any, array: Any, _at: Any, _front: Any, _last: Any) -> Any:
    """Do `array[at : at + last + 1] = [front, *array[at : at + last]]` without a branch.

    In kernels: push8(array, at, front, last), with last < 8.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row = _vector8(context, builder, sig.args[0], args[0], args[1])
        lanes = ir.Constant(ir.VectorType(_INT32, 8), [8, *range(7)])
        pushed = builder.shuffle_vector(row, _splat8(builder, args[2]), lanes)
        index = ir.Constant(_VECTOR8, list(range(8)))
        moves = builder.icmp_unsigned("<=", index, _splat8(builder, args[3]))
        pointer = _pointer8(context, builder, sig.args[0], args[0], args[1])
        builder.store(builder.select(moves, pushed, row), pointer, align=8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.uint64, types.int64), codegen


def _prefetch(_context: Any, array: Any, _index: Any) -> Any:
    """Bring the cache line of `array[index]` near. In kernels: prefetch(array, index)."""

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
    """Keep every load and store of this thread on its side of this point."""

    def codegen(context: Any, builder: Any, _sig: Any, _args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


def _peek_byte(_context: Any, _address: Any, _index: Any) -> Any:
    """Load the byte at `address + index`; later loads stay behind it.

    In kernels: peek_byte(address, index).
    """

    def codegen(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(builder.add(args[0], args[1]), _BYTE_POINTER)
        value = builder.load_atomic(pointer, "acquire", 1)
        return builder.zext(value, _INT64)

    return types.int64(types.int64, types.int64), codegen


def _intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    return cast(Callable[..., Any], intrinsic(function))


copy_line = _intrinsic(_copy_line)
find8 = _intrinsic(_find8)
push8 = _intrinsic(_push8)
prefetch = _intrinsic(_prefetch)
fence = _intrinsic(_fence)
peek_byte = _intrinsic(_peek_byte)
