"""`pageferry.migrate` over two namespaces: what is left of them, however it ends."""

from __future__ import annotations

import os
import signal

import pytest

import pageferry
from pageferry import Status
from tests.support.left_behind import nothing_left
from tests.support.network_needs import why_not
from tests.support.small_runs import SLOW

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.mark.parametrize("phase", ["making", "the network is up", "round 1"])
def test_ctrl_c_leaves_no_namespace(phase: str) -> None:
    sent = False

    def on_status(status: Status) -> None:
        nonlocal sent
        if not sent and status.phase.startswith(phase):
            sent = True
            os.kill(os.getpid(), signal.SIGINT)

    with nothing_left(), pytest.raises(pageferry.Interrupted, match="cancelled"):
        pageferry.migrate(**SLOW, net="rate=100mbit,delay=1ms", on_status=on_status)
    assert sent
