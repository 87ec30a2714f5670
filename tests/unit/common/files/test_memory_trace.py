"""The file format of traces: what is written is read, what is damaged is refused in one line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pageferry.common.errors import UsageError
from pageferry.common.files.memory_trace import MAX_PAGES, TraceMeta, open_trace, write_trace

ACCESSES = np.array([0, 1, 129, 255, 2 << 7, 3], np.uint32)  # 3 pages, 4 writes


def save(path: Path, accesses: NDArray[np.uint32], chunk: int = 4) -> TraceMeta:
    with path.open("wb") as file:
        return write_trace(
            file,
            (accesses[i : i + chunk] for i in range(0, len(accesses), chunk)),
            accesses=len(accesses),
            instructions=False,
            source="ls.lackey",
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(tmp_path / "t.npz", ACCESSES)
    return tmp_path / "t.npz"


def forge(path: Path, old: bytes, new: bytes) -> None:
    """Change the meta data, as somebody would who knows about checksums."""
    with zipfile.ZipFile(path) as archive:
        before = archive.read("meta.json")
    after = before.replace(old, new)
    assert before != after
    assert len(before) == len(after)
    raw = path.read_bytes()
    was, now = (struct.pack("<I", zlib.crc32(text)) for text in (before, after))
    path.write_bytes(raw.replace(before, after).replace(was, now))


class TestRoundTrip:
    @given(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 127)), min_size=1, max_size=40),
        st.integers(1, 7),
    )
    def test_what_is_written_is_read(
        self, tmp_path_factory: pytest.TempPathFactory, items: list[tuple[int, int]], chunk: int
    ) -> None:
        path = tmp_path_factory.mktemp("trace") / "t.npz"
        _, dense = np.unique([page for page, _ in items], return_inverse=True)
        low = np.array([rest for _, rest in items])
        accesses = (dense << 7 | low).astype(np.uint32)
        meta = save(path, accesses, chunk)
        trace = open_trace(str(path))
        trace.verify()
        assert trace.meta == meta
        np.testing.assert_array_equal(trace.accesses, accesses)
        assert trace.accesses.dtype == np.uint32
        assert trace.words.dtype == np.uint64
        assert trace.words.flags.writeable  # or numba would compile every kernel a second time
        assert trace.words.flags.aligned
        assert len(trace.words) == (len(accesses) + 1) // 2
        writes = int((accesses % 2).sum())
        assert (meta.reads, meta.writes) == (len(accesses) - writes, writes)
        assert meta.pages == int(accesses.max()) // 128 + 1

    def test_numpy_opens_it(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as archive:
            np.testing.assert_array_equal(archive["accesses"], ACCESSES)
            assert json.loads(archive["meta.json"])["format"] == "pageferry-trace"

    def test_the_same_accesses_make_the_same_bytes(self, path: Path, tmp_path: Path) -> None:
        save(tmp_path / "u.npz", ACCESSES, chunk=1)
        assert path.read_bytes() == (tmp_path / "u.npz").read_bytes()

    def test_writing_to_the_map_leaves_the_file_alone(self, path: Path) -> None:
        open_trace(str(path)).words[:] = 0
        open_trace(str(path)).verify()

    @pytest.mark.parametrize(
        ("accesses", "count"), [([0, 2 << 7], 2), ([0, 1], 3), ([0, 1], 1), ([1 << 7], 1)]
    )
    def test_only_dense_pages_and_the_announced_number(
        self, accesses: list[int], count: int
    ) -> None:
        with pytest.raises(ValueError, match="accesses of"):
            write_trace(
                io.BytesIO(),
                [np.array(accesses, np.uint32)],
                accesses=count,
                instructions=False,
                source="",
            )


class TestDamage:
    def refused(self, path: Path) -> str:
        with pytest.raises(UsageError) as error:
            open_trace(str(path)).verify()
        assert "\n" not in str(error.value)
        assert "t.npz" in str(error.value)
        return str(error.value)

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            (b'"version": 1', b'"version": 2', "has version 2, expected 1"),
            (b'"pages": 3', b'"pages": 2', "its pages are not those that its accesses touch"),
            (b'"pages": 3', b'"pages": 4', "its pages are not those that its accesses touch"),
            (b'"writes": 4', b'"writes": 5', "its reads and writes are not those"),
            (b'"accesses": 6', b'"accesses": 5', "does not begin as uint32[5]"),
            (b'"accesses": 6', b'"accesses": 0', "meta data at accesses"),
            (b'"digest"', b'"Digest"', "meta data at digest: Field required"),
            (b'"pages": 3', b'"sites": 3', "meta data at pages: Field required"),
            (b'"pageferry-trace"', b'"pageferry-thing"', "meta data at format"),
            (b"{", b"[", "its meta.json is not JSON"),
        ],
    )
    def test_wrong_metadata_are_refused(
        self, path: Path, old: bytes, new: bytes, says: str
    ) -> None:
        forge(path, old, new)
        assert says in self.refused(path)

    def test_changed_accesses_are_noticed(self, path: Path) -> None:
        raw = path.read_bytes()
        at = raw.index(ACCESSES.tobytes())
        path.write_bytes(raw[:at] + b"\x02" + raw[at + 1 :])
        assert "its accesses are not those that were written" in self.refused(path)

    def test_an_archive_of_something_else_is_no_trace(self, path: Path) -> None:
        np.savez(path, accesses=ACCESSES)
        assert "is no trace: expected a file made by `pageferry trace import`" in self.refused(path)

    def test_a_compressed_archive_is_refused(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        assert "it is compressed" in self.refused(path)

    def test_accesses_that_are_not_aligned_are_refused(self, path: Path) -> None:
        raw = path.read_bytes()
        path.write_bytes(b"#!" + raw)  # zipfile reads on
        assert "aligned" in self.refused(path)

    def test_every_cut_is_noticed(self, path: Path) -> None:
        raw = path.read_bytes()
        for length in range(len(raw)):
            path.write_bytes(raw[:length])
            self.refused(path)

    def test_no_byte_leads_to_anything_but_one_line(self, path: Path) -> None:
        """Each byte of the file, changed: refused, or not looked at."""
        raw = path.read_bytes()
        rng = np.random.default_rng(1)
        for at in range(len(raw)):
            changed = bytearray(raw)
            changed[at] ^= int(rng.integers(1, 256))
            path.write_bytes(changed)
            with contextlib.suppress(UsageError):
                trace = open_trace(str(path))
                trace.verify()
                np.testing.assert_array_equal(trace.accesses, ACCESSES)

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "t.npz")
        assert "not a regular file" in self.refused(tmp_path / "t.npz")

    def test_pages_have_a_limit(self) -> None:
        assert MAX_PAGES << 7 == 2**32
