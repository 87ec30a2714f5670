"""What another process sees of a guest: its heartbeats, and whether it runs for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest.control import CONTROL_WORDS, FIRST_NS, LAST_NS, REPLAY
from pageferry.common.guest.machine import Guest
from tests.unit.common.guest.conftest import run_for


def test_heartbeats_are_in_the_file_as_they_happen(tmp_path: Path) -> None:
    path = tmp_path / "witness"
    config = GuestConfig(memory=2**22, cache=2**16, vcpus=2, workload="uniform")
    guest = Guest(config, boot=True, witness=path)
    try:
        seen = np.memmap(path, np.int64, "r", shape=(2, CONTROL_WORDS))
        guest.start()
        assert not seen[:, FIRST_NS].any()
        guest.resume()
        run_for(guest, 100)
        guest.pause()
        beats = [(each.first_ns, each.last_ns) for each in guest.heartbeats()]
        assert seen[:, [FIRST_NS, LAST_NS]].tolist() == [list(each) for each in beats]
        assert seen[:, FIRST_NS].all()
        assert not seen[:, REPLAY].any()
        guest.run_until([steps + 10 for steps in guest.steps()])
        assert (seen[:, LAST_NS] > [last for _, last in beats]).all()
        guest.run_until([steps + 10 for steps in guest.steps()])
        assert seen[:, REPLAY].tolist() == [last for _, last in beats]
    finally:
        guest.close()


def test_a_guest_with_a_witness_is_the_same_guest(tmp_path: Path) -> None:
    config = GuestConfig(memory=2**22, cache=2**16, workload="zipf")
    digests = set()
    for witness in (None, tmp_path / "witness"):
        guest = Guest(config, boot=True, witness=witness)
        guest.start()
        guest.run_until([5000])
        guest.drain()
        digests.add(guest.digest())
        guest.close()
    assert len(digests) == 1
