"""Compressed payloads: what travels in place of pages or lines where that is shorter.

A payload is compressed by itself, as one zstd frame that names its size, or as one lz4 block. The
receiver knows from the table before it how long it must become, and never makes anything longer of
it: the size is checked before anything is allocated.

The libraries are loaded when a migration asks for one of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.config.fields import Compression
from pageferry.common.errors import RemoteProtocolError

# The fastest of zstd's usual levels: a link of 100 MB/s is filled by a part of one core.
ZSTD_LEVEL: Final = 1
MAX_UNPACKED: Final = 16 * 2**20  # bytes: what a receiver must be ready to take at once


class Codec(IntEnum):
    """How a payload is compressed, as a frame's header says it."""

    ZSTD = 1
    LZ4 = 2


def codec_of(name: Compression) -> Codec | None:
    """Return the codec of that name.

    Args:
        name: As `--compress` has it.

    Returns:
        None for `none`.
    """
    return None if name == "none" else Codec[name.upper()]


Pack = Callable[[memoryview], bytes]
_Unpack = Callable[[memoryview, int], bytes]


def packer(codec: Codec) -> Pack:
    """Return a function that compresses a payload, and releases the interpreter lock meanwhile.

    Args:
        codec: What is to come out.

    Returns:
        The function, for one thread at a time.
    """
    if codec is Codec.ZSTD:
        import zstandard

        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress
    import lz4.block

    def pack(data: memoryview) -> bytes:
        packed: bytes = lz4.block.compress(data, store_size=False)
        return packed

    return pack


class Unpacker:
    """The decompressor of one connection, for one thread at a time.

    Args:
        codec: The only one that is expected.

    Attributes:
        cpu_s: CPU seconds that it has cost so far.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec: Final = codec
        self.cpu_s = 0.0
        self._unpack = _zstd_unpacker() if codec is Codec.ZSTD else _lz4_unpacker()

    def unpack(self, data: memoryview, size: int) -> NDArray[np.uint8]:
        """Decompress a payload.

        Args:
            data: As it came.
            size: Bytes that it has to become; at most `MAX_UNPACKED`.

        Returns:
            uint8[size], read-only.

        Raises:
            RemoteProtocolError: If it can't be decompressed to that size.
        """
        started = time.thread_time()
        out = self._unpack(data, size)
        self.cpu_s += time.thread_time() - started
        if len(out) != size:
            raise RemoteProtocolError(
                f"a compressed payload that became {len(out)} bytes, expected {size}"
            )
        return np.frombuffer(out, np.uint8)


def check_size(size: int, unpacked: int) -> None:
    """Check that a compressed payload may be that long.

    Args:
        size: Its bytes as they come.
        unpacked: Bytes that it has to become.

    Raises:
        RemoteProtocolError: If it is not shorter, so nobody would send it, or becomes too much.
    """
    if size >= unpacked or unpacked > MAX_UNPACKED:
        raise RemoteProtocolError(f"a compressed payload of {size} bytes in place of {unpacked}")


def fill_buffers(data: NDArray[np.uint8], buffers: list[memoryview]) -> None:
    """Fill buffers with data, in order.

    Args:
        data: uint8[n].
        buffers: Writable, together n bytes.
    """
    at = 0
    for buffer in buffers:
        np.frombuffer(buffer, np.uint8)[:] = data[at : at + len(buffer)]
        at += len(buffer)


def _zstd_unpacker() -> _Unpack:
    import zstandard

    context = zstandard.ZstdDecompressor(max_window_size=MAX_UNPACKED)

    def unpack(data: memoryview, size: int) -> bytes:
        try:
            announced = zstandard.frame_content_size(data)
            if announced != size:  # -1 where it does not say
                raise RemoteProtocolError(
                    f"a zstd frame that announces {announced} bytes, expected {size}"
                )
            return context.decompress(data, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise RemoteProtocolError(f"an illegal zstd frame ({error})") from None

    return unpack


def _lz4_unpacker() -> _Unpack:
    import lz4.block

    def unpack(data: memoryview, size: int) -> bytes:
        try:
            out: bytes = lz4.block.decompress(data, uncompressed_size=size)
        except lz4.block.LZ4BlockError:
            raise RemoteProtocolError("an illegal lz4 block") from None
        return out

    return unpack
