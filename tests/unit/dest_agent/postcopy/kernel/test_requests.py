"""A commit that comes after the question what had become of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pageferry.common.errors import ConnectionBroken
from pageferry.common.handover import Handover
from pageferry.dest_agent.session import DestSession


async def test_it_is_refused_in_a_sentence() -> None:
    """Asked while the snapshot is being restored: "never" was the answer, and stays it."""
    session = DestSession.__new__(DestSession)
    session.handover = Handover("dest")
    session.handover.peer("setup")
    session.handover.step("ready")

    def restore(_snapshot: object) -> None:
        assert session.handover.query().value == "never"

    async def blocking(function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    odd = cast(Any, session)
    odd._guest, odd._blocking = SimpleNamespace(restore=restore), blocking
    commit = cast(Any, SimpleNamespace(snapshot={}, missing=None))
    with pytest.raises(ConnectionBroken, match=r'asked what had become .* told "never"'):
        await session._resume(commit)
    assert not session.handover.may_run_guest
