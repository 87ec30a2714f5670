"""Sets of pages as they travel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import RemoteProtocolError
from common.wire.bitmap import pack, popcount, unpack


@given(st.lists(st.booleans(), max_size=70))
def test_round_trip(pages: list[bool]) -> None:
    packed = pack(np.array(pages, np.bool_))
    assert unpack(packed, len(pages)).tolist() == pages
    assert popcount(packed) == sum(pages)


@pytest.mark.parametrize(("data", "n_pages"), [(b"", 1), (b"\0\0", 8), (b"\xff", 7)])
def test_what_does_not_fit_the_guest(data: bytes, n_pages: int) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(data, n_pages)
