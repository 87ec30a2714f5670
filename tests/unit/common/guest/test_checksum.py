"""What compiled code calls is what the library calculates."""

import numpy as np
import pytest
import xxhash

from pageferry.common.errors import UsageError
from pageferry.common.guest import checksum
from pageferry.common.guest.checksum import require_checksum, xxh3_64
from pageferry.common.guest.jit import kernel
from pageferry.common.wire import encoder, header


@kernel
def _of(address: int, size: int) -> int:
    return xxh3_64(address, size)  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [0, 1, 16, 17, 128, 129, 240, 241, 4128, 131_352])
def test_it_is_the_library(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, max(size, 1), np.uint8)
    whole = data.data[:size]
    assert _of(data.ctypes.data, size) == xxhash.xxh3_64_intdigest(whole)
    (trailer,) = header.TRAILER.unpack(encoder.trailer(whole))
    assert trailer == xxhash.xxh3_64_intdigest(whole)


def test_a_build_that_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require_checksum()
    monkeypatch.setattr(checksum, "_AVAILABLE", False)
    with pytest.raises(UsageError, match="--no-checksum"):
        require_checksum()
