"""Which of the two ways to stop a guest on a missing page works here.

kernel: the vCPU's thread stops in the kernel at the very access (userfaultfd). software: the vCPU
looks at a map of present pages when its cache, or without one an access, needs memory.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pageferry.common.units import PAGE_SIZE
from pageferry.common.userfault import (
    Placed,
    Userfault,
    UserfaultError,
    UserfaultUnavailable,
    open_userfault,
)

MechanismName = Literal["kernel", "software"]


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A choice, and why it was made.

    Attributes:
        name: Which mechanism.
        reason: In words for the report.
    """

    name: MechanismName
    reason: str


def choose_mechanism(wanted: Literal["auto", "kernel", "software"]) -> Mechanism:
    """Choose the kernel's mechanism if it works here, tried on two pages of our own.

    Args:
        wanted: What `--faults` asks for; `software` is never tried out.

    Returns:
        For `auto`, `software` with the reason if the kernel's does not work.

    Raises:
        UserfaultUnavailable: `kernel` was asked for and does not work here.
        UsageError: The kernel's places pages wrongly.
    """
    if wanted == "software":
        return Mechanism("software", "asked for")
    try:
        how = probe_userfault()
    except UserfaultUnavailable as error:
        if wanted == "kernel":
            raise
        return Mechanism("software", str(error))
    return Mechanism("kernel", how)


def probe_userfault() -> str:
    """Serve two pages to ourselves by userfaultfd.

    Being able to open the descriptor proves little: a confined process may have it and be refused
    its calls.

    Returns:
        By which way userfaultfd was had, in words.

    Raises:
        UserfaultUnavailable: It does not work here.
        UsageError: It places pages wrongly.
    """
    userfault = open_userfault()
    try:
        _try_out(userfault)
    except UserfaultError as error:
        raise UserfaultUnavailable(f"{error} ({userfault.how})") from None
    finally:
        userfault.close()
    return userfault.how


def _try_out(userfault: Userfault) -> None:
    pages = mmap.mmap(-1, 2 * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    content = np.full(PAGE_SIZE, 0xA5, np.uint8)
    view = np.frombuffer(pages, np.uint8)
    address = view.ctypes.data
    userfault.register(address, len(pages))
    try:
        placed = userfault.copy(address, content.ctypes.data, PAGE_SIZE)
        zeroed = userfault.zeropage(address, 2 * PAGE_SIZE)
    finally:
        userfault.unregister(address, len(pages))
    expected = Placed(1, 0), Placed(1, 1)
    if (placed, zeroed) != expected or view[0] != 0xA5 or view[PAGE_SIZE:].any():
        raise UserfaultUnavailable("userfaultfd does not place pages as it says")
