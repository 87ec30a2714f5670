"""Old reports' histograms: read as they were written, and never more than that."""

from __future__ import annotations

import base64
import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pageferry.common.report import hdr_histogram
from pageferry.common.report.hdr_histogram import HistogramError, read_histogram

# Texts of hdrhistogram 0.10.3, and the cells that its own iterator finds in them.
KNOWN = {
    ("HISTFAAAAB14nJNpmSzMgADMUJoRyHQz2LGAwf4DRAAATjkESw=="): [],
    ("HISTFAAAACN4nJNpmSzMwMDAxAABzFCaEch0M9ixgMH+A0QglgkAV9EErA=="): [(47, 1)],
    (
        "HISTFAAAAJh4nJNpmSzMwMBQzAABzFCaEch0M9ixgMH+A0RAksmTL5VJkCmW6TYb000WpufsTE+5mVrN"
        "+D6z8V1nZHpox3eZhemkANN2dqaVAkxTzfh2i/Dt5mb6zsz0nJNpOzPTWjGmp4ZMs1n5+tmZlrMwbeXl"
        "2yvAd5adaTIz31RuvsksTKtZma5z8K3k4tvPwbefhalVigkAW0cisg=="
    ): [
        (13, 1),
        (51, 7),
        (103, 1),
        (113, 1),
        (161, 1),
        (592, 1),
        (894, 1),
        (1395, 1),
        (2255, 1),
        (24255, 7),
        (31343, 7),
        (33407, 1),
        (509439, 7),
        (647679, 1),
        (1334271, 1),
        (1822719, 1),
        (3690495, 1),
        (38469631, 7),
        (95748095, 7),
        (153616383, 1),
        (186777599, 1),
        (270008319, 1),
        (327942143, 1),
        (869793791, 1),
        (7444889599, 1),
        (9110028287, 7),
        (12943622143, 1),
        (15267266559, 1),
        (27783069695, 7),
        (56639881215, 7),
        (77309411327, 1),
        (90932510719, 7),
        (140525961215, 7),
        (176362094591, 1),
        (222398775295, 1),
        (319438192639, 7),
        (497142464511, 7),
        (737123762175, 7),
        (892279455743, 1),
        (2753074036735, 1),
    ],
    (
        "HISTFAAAAHh4nJNpmSzMwMAQygABzFDqBRC7GexYwGD/ASJiJ8fIxDSTiUmT7z8r31ompkYevpuMfKV8"
        "9xn5ZosytWvw3Wfma2fn+6rA18rHd5WLiZdpPxtTPw9TKyfTVE+mhyx8V/mZEvlWMzMd52bqF2F6ys7U"
        "L8cHAJpAGhM="
    ): [
        (511, 31),
        (1023, 15),
        (2047, 1),
        (2559, 1),
        (75263, 1),
        (86527, 7),
        (283647, 7),
        (361471, 1),
        (755711, 7),
        (812031, 7),
        (842751, 7),
        (900607, 7),
        (2191359, 1),
        (13000703, 7),
        (14974975, 7),
        (20594687, 7),
        (86310911, 7),
        (156368895, 7),
        (246022143, 1),
        (247070719, 1),
        (335020031, 1),
        (540540927, 1),
        (844627967, 1),
        (19713228799, 1),
        (24847056895, 7),
        (49023025151, 1),
        (50700746751, 7),
        (57914949631, 1),
        (96838090751, 1),
        (229243879423, 1),
        (317827579903, 1),
        (1143535042559, 7),
    ],
}


def made(counts: bytes, *, digits: int = 3, least: int = 1, length: int | None = None) -> str:
    size = len(counts) if length is None else length
    inner = struct.pack(">IIIIQQd", 0x1C849313, size, 0, digits, least, 10**12, 1.0) + counts
    packed = zlib.compress(inner)
    return base64.b64encode(struct.pack(">II", 0x1C849314, len(packed)) + packed).decode()


@pytest.mark.parametrize("text", KNOWN)
def test_known_histograms_are_read(text: str) -> None:
    assert read_histogram(text) == KNOWN[text]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "too short"),
        ("HISTF", "base64"),
        ("HISTFAAA", "too short"),
        ("HISTFAAAAAA=", "damaged"),
        ("<script>", "base64"),
        ("é" * 40, "base64"),
        ("A" * 2**21, "longer than"),
        (made(b"\x02", length=2), "missing at its end"),
        (made(b"\x80"), "within a number"),
        (made(b"", digits=0), "a header"),
        (made(b"", digits=9), "a header"),
        (made(b"", least=0), "a header"),
        (made(b"\xff" * 8 + b"\x7f"), "more than"),
        (made(b"\x02" * 2**20), "when it is unpacked"),
        (made(b"\xfe" + b"\xff" * 7 + b"\x7f"), "more counts"),
        (made(b"\xff\xff\x03\x02", least=2**61), "no clock"),
        (made(b"\xff\xff\x03\x02", least=2**50, digits=5), "no clock"),
    ],
)
def test_what_is_none_is_an_error(text: str, why: str) -> None:
    with pytest.raises(HistogramError, match=why):
        read_histogram(text)


def test_a_bomb_is_not_unpacked() -> None:
    text = made(b"\x00" * 100_000_000)
    assert len(text) < 200_000
    with pytest.raises(HistogramError, match="when it is unpacked"):
        read_histogram(text)


@given(st.text(max_size=400) | st.binary(max_size=200).map(made))
@example("HISTFAAAABl4nA==")
def test_anything_is_read_or_an_error(text: str) -> None:
    try:
        cells = read_histogram(text)
    except HistogramError:
        return
    assert len(cells) <= hdr_histogram._MOST_CELLS
    assert [value for value, _ in cells] == sorted({value for value, _ in cells})
    assert all(count > 0 for _, count in cells)
    assert all(0 <= value < 2**63 for value, _ in cells)
