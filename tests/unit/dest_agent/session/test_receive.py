"""A commit that comes after the question what had become of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pageferry.common.errors import ConnectionBroken
from pageferry.dest_agent.protocol import DestProtocol
from pageferry.dest_agent.session.receive import carry_out_commit


async def test_it_is_refused_in_a_sentence() -> None:
    """Asked while the snapshot is being restored: "never" was the answer, and stays it."""
    protocol = DestProtocol(30.0)
    protocol.handover.peer("setup")
    protocol.ready()

    def restore(_snapshot: object) -> None:
        assert protocol.query().answer == "never"

    async def run(function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    context = cast(Any, SimpleNamespace(protocol=protocol, thread=SimpleNamespace(run=run)))
    prepared = cast(Any, SimpleNamespace(guest=SimpleNamespace(restore=restore)))
    commit = cast(Any, SimpleNamespace(snapshot={}, missing=None))
    with pytest.raises(ConnectionBroken, match=r'asked what had become .* told "never"'):
        await carry_out_commit(context, prepared, commit)
    assert not protocol.handover.may_run_guest
