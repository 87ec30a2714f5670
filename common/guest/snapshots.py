"""What travels beside memory: each vCPU's registers, as something msgpack packs."""

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


def take(config: GuestConfig, states: Sequence[NDArray[np.uint64]]) -> dict[str, Any]:
    """A snapshot of these uint64[STATE_WORDS], little-endian."""
    return {
        "version": VERSION,
        "workload": config.workload,
        "vcpus": [state.astype("<u8").tobytes() for state in states],
    }


def check(config: GuestConfig, snap: object) -> list[NDArray[np.uint64]]:
    """The states in a snapshot of a guest of this configuration. Raises `RemoteProtocolError`."""
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
