"""A frame in chunks is the frame: byte for byte, its checksum right, whatever the guest does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pageferry.common.guest.memory import GuestMemory
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder
from pageferry.common.wire.extents import from_pages
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.precopy.frame_chunks import CHUNK_PAGES, FrameChunker

N_PAGES = 1024
PAGE_SETS = {
    "one": [17],
    "just a chunk": list(range(100, 100 + CHUNK_PAGES)),
    "a chunk and one": list(range(CHUNK_PAGES + 1)),
    "several chunks": list(range(10, 10 + 3 * CHUNK_PAGES)),
    "scattered": list(range(0, N_PAGES, 3)),
    "a run that ends within a chunk": [*range(50, 90), 95, *range(200, 500)],
}


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    memory = GuestMemory(N_PAGES * PAGE_SIZE)
    memory.fill(1)
    yield memory
    memory.close()


@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("name", PAGE_SETS)
def test_the_chunks_are_the_whole_frame(
    memory: GuestMemory, name: str, checked: bool, still: bool
) -> None:
    pages = np.array(PAGE_SETS[name], np.int64)
    head = encoder.encode_pages_head(from_pages(pages), checked=checked)
    chunker = FrameChunker(memory, StreamFormat(checksum=checked))
    chunks = chunker.chunks(head, pages, still=still)
    sent = b"".join(bytes(buffer) for chunk in chunks for buffer in chunk)
    body = memory.pages[pages].tobytes()
    assert sent == head + body + (encoder.trailer(head, body) if checked else b"")


def test_a_guest_that_writes_meanwhile_spoils_no_checksum(memory: GuestMemory) -> None:
    pages = np.arange(300)
    head = encoder.encode_pages_head(from_pages(pages), checked=True)
    sent = []
    for chunk in FrameChunker(memory, StreamFormat(checksum=True)).chunks(head, pages, still=False):
        memory.words[: 300 * 512] += np.uint64(1)  # between the summing and the sending
        sent += [bytes(buffer) for buffer in chunk]
    assert sent[-1] == encoder.trailer(*sent[:-1])


def test_of_a_still_guest_runs_are_not_copied(memory: GuestMemory) -> None:
    pages = np.arange(300)
    head = encoder.encode_pages_head(from_pages(pages))
    chunks = list(FrameChunker(memory, StreamFormat()).chunks(head, pages, still=True))
    memory.view[5] ^= 255
    assert chunks[0][1][5] == memory.view[5]
