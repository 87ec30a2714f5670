"""The last line of a host, and its exit code."""

from __future__ import annotations

import pytest

from pageferry.host.host import closing_line

LOST = (4, "guest g: the guest is lost")
BACK = (130, "session 0123: the guest that was coming goes on at the source")
WHOLE = (0, "session 4567: its guest came in whole")


@pytest.mark.parametrize(
    ("ended", "fates", "code", "words"),
    [
        ([], [], 130, "stopped: no guest was here or on its way"),
        (["a", "b"], [], 4, "stopped: guests that ended with this host: a, b"),
        ([], [LOST], 4, f"stopped: {LOST[1]}"),
        ([], [BACK], 130, f"stopped: {BACK[1]}"),
        ([], [BACK, LOST], 4, f"stopped: {BACK[1]}; {LOST[1]}"),
        (["a"], [WHOLE], 4, f"stopped: guests that ended with this host: a; {WHOLE[1]}"),
    ],
)
def test_it_says_where_each_guest_is(
    ended: list[str], fates: list[tuple[int, str]], code: int, words: str
) -> None:
    assert closing_line(ended, fates) == (words, code)
