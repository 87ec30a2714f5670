"""Frames without a body as compiled code writes and checks them: the encoder's, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.guest import jit
from pageferry.common.urgent import kernels
from pageferry.common.urgent.kernels import is_sealed, put_bodyless
from pageferry.common.wire.encoder import encode_answer, encode_probe, encode_request
from pageferry.common.wire.frames import FrameType

ENCODERS: dict[FrameType, Callable[..., bytes]] = {
    FrameType.REQUEST: encode_request,
    FrameType.PROBE: encode_probe,
    FrameType.ANSWER: encode_answer,
}


@given(
    kind=st.sampled_from(sorted(ENCODERS)),
    value=st.integers(0, 2**32 - 1),
    entries=st.integers(0, 2**16 - 1),
    checked=st.booleans(),
)
def test_what_is_written_is_what_the_encoder_makes(
    kind: FrameType, value: int, entries: int, checked: bool
) -> None:
    words = np.full(8, -1, np.int64)
    end = put_bodyless(words, 1, int(kind), int(checked), entries, value)
    assert words[1:end].tobytes() == ENCODERS[kind](value, entries, checked=checked)
    assert (words[0], words[end]) == (-1, -1)


def test_a_changed_bit_is_seen() -> None:
    words = np.zeros(8, np.int64)
    end = put_bodyless(words, 0, int(FrameType.PROBE), 1, 3, 9)
    assert is_sealed(words, 0, end - 1)
    words[0] ^= 1 << 40
    assert not is_sealed(words, 0, end - 1)


@pytest.mark.parametrize("edited", ["header.py", "control.py"])
def test_an_edit_of_what_both_ends_share_has_their_kernels_compiled_anew(
    edited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, layout = tmp_path / "urgent", tmp_path / "wire"
    for folder, sources in ((here, kernels._HERE.glob("*.py")), (layout, kernels._LAYOUT)):
        folder.mkdir()
        for source in sources:
            (folder / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(kernels, "_HERE", here)
    monkeypatch.setattr(kernels, "_LAYOUT", tuple(sorted(layout.glob("*.py"))))
    scopes: list[str] = []
    monkeypatch.setattr(jit, "kernel", lambda _, scope: scopes.append(scope))

    def any_kernel() -> None: ...

    package = tmp_path / "package"
    package.mkdir()
    kernels.urgent_kernels(package)(any_kernel)
    (path,) = tmp_path.rglob(edited)
    path.write_bytes(path.read_bytes() + b"\n")
    kernels.urgent_kernels(package)(any_kernel)
    assert scopes[0] != scopes[1]
