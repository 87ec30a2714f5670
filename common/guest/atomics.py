"""Atomic operations, by address, on memory that several compiled threads share.

All that write are sequentially consistent: no load or store of the calling thread moves across one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_BYTE: Final = ir.IntType(8)
_INT32: Final = ir.IntType(32)
_INT64: Final = ir.IntType(64)
_i64: Final = types.int64


def _at(builder: Any, address: Any, index: Any, kind: Any) -> Any:
    return builder.inttoptr(builder.add(address, index), kind.as_pointer())


def _peek_word(_context: Any, _address: Any) -> Any:
    """Load the int64 at `address`; later loads stay behind it. In kernels: peek_word(address)."""

    def codegen(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _INT64.as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return _i64(_i64), codegen


def _peek_int(_context: Any, _address: Any) -> Any:
    """Load the int32 at `address`. In kernels: peek_int(address)."""

    def codegen(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _INT32.as_pointer())
        return builder.sext(builder.load(pointer, align=4), _INT64)

    return _i64(_i64), codegen


def _swap_byte(_context: Any, _address: Any, _index: Any, _value: Any) -> Any:
    """Put `value` at `address + index` and return what was there.

    In kernels: swap_byte(address, index, value).
    """

    def codegen(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        pointer = _at(builder, args[0], args[1], _BYTE)
        old = builder.atomic_rmw("xchg", pointer, builder.trunc(args[2], _BYTE), "seq_cst")
        return builder.zext(old, _INT64)

    return _i64(_i64, _i64, _i64), codegen


def _turn_byte(_context: Any, _address: Any, _index: Any, _old: Any, _new: Any) -> Any:
    """Change the byte at `address + index` to `new` if it is `old`; return whether it was.

    In kernels: turn_byte(address, index, old, new), which returns 1 or 0.
    """

    def codegen(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        pointer = _at(builder, args[0], args[1], _BYTE)
        old, new = (builder.trunc(value, _BYTE) for value in args[2:])
        result = builder.cmpxchg(pointer, old, new, "seq_cst")
        return builder.zext(builder.extract_value(result, 1), _INT64)

    return _i64(_i64, _i64, _i64, _i64), codegen


def _add_word(_context: Any, _address: Any, _delta: Any) -> Any:
    """Add to the int64 at `address` and return the sum. In kernels: add_word(address, delta)."""

    def codegen(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _INT64.as_pointer())
        return builder.add(builder.atomic_rmw("add", pointer, args[1], "seq_cst"), args[1])

    return _i64(_i64, _i64), codegen


def _intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    return cast(Callable[..., Any], intrinsic(function))


peek_word = _intrinsic(_peek_word)
peek_int = _intrinsic(_peek_int)
swap_byte = _intrinsic(_swap_byte)
turn_byte = _intrinsic(_turn_byte)
add_word = _intrinsic(_add_word)
