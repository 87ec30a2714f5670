"""What travels beside memory: each vCPU's registers, in a form that msgpack can pack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import RemoteProtocolError
from pageferry.common.guest.control import STATE_WORDS, STEPS

VERSION: Final = 1
_MAX_STEPS: Final = 2**62  # nothing that counts in int64 can overflow from there


def take_snapshot(config: GuestConfig, states: Sequence[NDArray[np.uint64]]) -> dict[str, Any]:
    """Make a snapshot.

    Args:
        config: Its workload goes into the snapshot, to be compared.
        states: uint64[STATE_WORDS] of each vCPU, in order.

    Returns:
        What `check_snapshot` takes; registers are little-endian bytes.
    """
    return {
        "version": VERSION,
        "workload": config.workload,
        "vcpus": [state.astype("<u8").tobytes() for state in states],
    }


def check_snapshot(config: GuestConfig, snap: object) -> list[NDArray[np.uint64]]:
    """Check a snapshot and take it apart.

    Args:
        config: The guest that is to take it: workload and vCPUs must be the same.
        snap: What arrived, of any type.

    Returns:
        uint64[STATE_WORDS] of each vCPU, in order.

    Raises:
        RemoteProtocolError: It is not a snapshot of such a guest.
    """
    if not isinstance(snap, dict) or set(snap) != {"version", "workload", "vcpus"}:
        raise RemoteProtocolError("the snapshot is not one")
    if snap["version"] != VERSION:
        raise RemoteProtocolError(f"snapshot version {snap['version']!r}: expected {VERSION}")
    if snap["workload"] != config.workload:
        raise RemoteProtocolError(f"the snapshot is of another workload, not {config.workload!r}")
    vcpus = snap["vcpus"]
    if not isinstance(vcpus, list | tuple) or len(vcpus) != config.vcpus:
        raise RemoteProtocolError(f"the snapshot's vCPUs: expected {config.vcpus}")
    states = []
    for index, raw in enumerate(vcpus):
        if not isinstance(raw, bytes) or len(raw) != 8 * STATE_WORDS:
            raise RemoteProtocolError(f"the snapshot's vCPU {index} is malformed")
        state: NDArray[np.uint64] = np.frombuffer(raw, "<u8").astype(np.uint64)
        if state[STEPS] >= _MAX_STEPS:
            raise RemoteProtocolError(f"the snapshot's vCPU {index} has an impossible step count")
        states.append(state)
    return states
