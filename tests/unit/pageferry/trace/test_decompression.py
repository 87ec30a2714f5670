"""Compressed texts: by content, in bounded pieces, and one line about each that is damaged."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import io
import lzma
import tracemalloc
import zipfile
from collections.abc import Callable
from typing import Any, cast

import lz4.frame
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pageferry.trace.decompression import BLOCK, PackedError, unpacked

SKIPPABLE = b"\x51\x2a\x4d\x18\x04\0\0\0abcd"


def zipped(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": functools.partial(lzma.compress, format=lzma.FORMAT_ALONE),
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": lz4.frame.compress,
    "zip": lambda data: zipped(("folder/", b""), ("text", data), ("__MACOSX/._text", b"x")),
}


class Pipe(io.RawIOBase):
    """Gives a few bytes at a time, and can't go back."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        part = self._data.read(min(3, len(buffer)))
        buffer[: len(part)] = part
        return len(part)


def all_of(data: bytes, *, pipe: bool = False) -> bytes:
    file: Any = io.BufferedReader(cast(Any, Pipe(data))) if pipe else io.BytesIO(data)
    return b"".join(unpacked(file))


@given(st.sampled_from(list(PACKERS)), st.binary(max_size=300).filter(lambda d: d[:2] != b"PK"))
def test_what_was_packed_comes_out(kind: str, data: bytes) -> None:
    assert kind == "plain" or all_of(PACKERS[kind](data)) == data
    if kind not in ("plain", "zip"):
        assert all_of(PACKERS[kind](data), pipe=True) == data


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd", "lz4"])
def test_files_that_were_put_together_are_one(kind: str) -> None:
    one, other = PACKERS[kind](b"one\n" * 1000), PACKERS[kind](b"other\n")
    assert all_of(one + other) == b"one\n" * 1000 + b"other\n"
    if kind == "xz":
        assert all_of(one + bytes(8) + other + bytes(4)) == b"one\n" * 1000 + b"other\n"
    if kind in ("zstd", "lz4"):
        assert all_of(SKIPPABLE + PACKERS["zstd"](b"x")) == b"x"


@given(st.sampled_from([kind for kind in PACKERS if kind != "plain"]), st.data())
def test_whatever_is_cut_off_or_changed_is_one_line(kind: str, data: st.DataObject) -> None:
    content = np.random.default_rng(1).bytes(2000).hex().encode()
    whole = PACKERS[kind](content)
    end = data.draw(st.integers(8, len(whole) - 1))
    with pytest.raises(PackedError) as cut:
        all_of(whole[:end])
    assert "\n" not in str(cut.value)
    assert kind in str(cut.value)
    changed = bytearray(whole)
    changed[data.draw(st.integers(8, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(PackedError):  # or it still is a file, of other bytes
        all_of(bytes(changed))


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd", "lz4", "zip"])
def test_a_file_that_unpacks_to_much_more_is_never_in_memory(kind: str) -> None:
    bomb = PACKERS[kind](bytes(1 << 27))
    tracemalloc.start()
    try:
        size = sum(len(block) for block in unpacked(io.BytesIO(bomb)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 1 << 27
    assert peak < (1 << 25) + 8 * BLOCK


def test_a_window_that_is_too_large_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29, "mode": lzma.MODE_FAST}]
    packer = lzma.LZMACompressor(filters=filters)
    with pytest.raises(PackedError, match=r"the xz file wants more than 256 MiB of memory"):
        all_of(packer.compress(b"x") + packer.flush())
    parameters = zstandard.ZstdCompressionParameters(window_log=29)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(PackedError, match=r"the zstd file wants more than 256 MiB of memory"):
        all_of(packed.compress(b"x") + packed.flush())


@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_an_archive_has_one_file(names: tuple[str, ...]) -> None:
    with pytest.raises(PackedError, match=f"the zip file has {len(names)} files: expected one"):
        all_of(zipped(*((name, b"x") for name in names)))


def test_an_archive_is_no_stream() -> None:
    with pytest.raises(PackedError, match="can't be read from a pipe"):
        all_of(zipped(("a", b"x")), pipe=True)
