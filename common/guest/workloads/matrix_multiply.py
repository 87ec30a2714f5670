"""The paper's second example: C = A x B, in all of guest memory."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.cache import access
from pageferry.common.guest.control import STEPS, VcpuArrays
from pageferry.common.guest.jit import inlined, kernel
from pageferry.common.guest.memory import WORDS_PER_PAGE, GuestMemory
from pageferry.common.guest.native import signed
from pageferry.common.guest.quantum import begin_quantum, page_missing
from pageferry.common.guest.rng import mix
from pageferry.common.guest.seeds import derive
from pageferry.common.guest.workloads.base import FIRST_PAGE, OWN, Plan, Workload
from pageferry.common.workload.region import Region
from pageferry.common.workload.shapes import MATRICES, square, third

_N: Final = OWN  # rows and columns of each matrix, a multiple of 8
_THIRD: Final = OWN + 1  # pages from one matrix to the next
_BLOCK_ROWS: Final = 256  # `check` processes so many rows at a time
_EXACT_BITS: Final = 52  # a float64 holds whole numbers of so many bits exactly


@kernel
def _fill(words: NDArray[np.float64], seed: np.uint64, bits: int) -> None:
    """Fill with whole numbers up to 2**bits, of either sign, never zero."""
    mask = np.uint64((1 << bits) - 1)
    for i in range(len(words)):
        h = mix(seed + np.uint64(i))
        size = float(signed((h >> np.uint64(1)) & mask) + 1)
        words[i] = size if h & np.uint64(1) == np.uint64(0) else -size


@inlined
def _add_row(numbers: NDArray[np.float64], at: int, a: float, b: tuple[float, ...]) -> None:
    """Add a multiple of eight numbers to the eight at `at`."""
    numbers[at] += a * b[0]
    numbers[at + 1] += a * b[1]
    numbers[at + 2] += a * b[2]
    numbers[at + 3] += a * b[3]
    numbers[at + 4] += a * b[4]
    numbers[at + 5] += a * b[5]
    numbers[at + 6] += a * b[6]
    numbers[at + 7] += a * b[7]


@kernel
def quantum(m: VcpuArrays, n: int) -> None:
    """Run `n` steps, or fewer if a page is missing.

    Args:
        m: What the vCPU works on; its `state` counts the steps done.
        n: As `begin_quantum` returned it, at least 1.
    """
    size = m.params[_N]
    a_word = m.params[FIRST_PAGE] << 9
    b_part = (m.params[FIRST_PAGE] + m.params[_THIRD]) << 6
    c_part = (m.params[FIRST_PAGE] + 2 * m.params[_THIRD]) << 6
    row_parts = size >> 3
    numbers = m.arena.view(np.float64)
    step = signed(m.state[STEPS])
    end = step + n
    k = step // (row_parts * size) % size
    row = step // row_parts % size
    column = step % row_parts
    while step < end:
        word = a_word + row * size + k
        at = access(m, word >> 3, False)
        if at < 0:
            page_missing(m, -1 - at)
            break
        a = numbers[at + (word & 7)]
        at = access(m, b_part + k * row_parts + column, False)
        if at < 0:
            page_missing(m, -1 - at)
            break
        # C's line may take the place of B's in the cache: B's is read first.
        low = numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]
        high = numbers[at + 4], numbers[at + 5], numbers[at + 6], numbers[at + 7]
        at = access(m, c_part + row * row_parts + column, True)
        if at < 0:
            page_missing(m, -1 - at)
            break
        if k == 0:  # what was there may be any bits, even NaN
            numbers[at : at + 8] = 0.0
        _add_row(numbers, at, a, low + high)
        step += 1
        column += 1
        if column == row_parts:
            column = 0
            row += 1
            if row == size:
                row = 0
                k = k + 1 if k + 1 < size else 0
    m.state[STEPS] = np.uint64(step)


@kernel
def run(m: VcpuArrays) -> None:
    """Run quanta until the vCPU is told to stop.

    Args:
        m: What the vCPU works on.
    """
    while True:
        n = begin_quantum(m)
        if n == 0:
            return
        quantum(m, n)


class MatrixMultiply(Workload):
    """Multiplies two matrices that fill two thirds of memory; the last third is the product.

    float64, row by row, as a sequence of rank-1 updates: C += (column k of A) x (row k of B), for k
    = 0, 1, ..., the first of which overwrites C, and then again from the start. All of C changes
    with every update. The elements are whole numbers small enough for every sum to be exact.
    """

    kernel = run

    def plan(self, region: Region) -> Plan:
        """Plan updates of matrices of `square` rows and columns, `third` pages apart, flat out.

        Args:
            region: The vCPU's part of the guest.

        Returns:
            Three thirds of the region.
        """
        apart = third(region)
        return Plan(pages=apart * MATRICES, own=(square(region), apart))

    def boot(self, memory: GuestMemory, region: Region) -> None:
        """Fill A and B with random numbers; C keeps what memory was filled with.

        Args:
            memory: All of the guest's memory; A and B are written.
            region: The vCPU's part of the guest; its seed determines the numbers.
        """
        size = square(region)
        bits = min(19, (_EXACT_BITS - size.bit_length()) // 2)
        for which in (0, 1):
            matrix = _matrix(memory, region, which)
            _fill(matrix.reshape(-1), np.uint64(derive(region.seed, which)), bits)

    def check(self, memory: GuestMemory, region: Region, state: NDArray[np.uint64]) -> str | None:
        """Compare C with what the updates so far make of A and B.

        Args:
            memory: All of the guest's memory.
            region: The vCPU's part of the guest.
            state: uint64[STATE_WORDS], the vCPU's registers, which count the steps that are in C.

        Returns:
            The first element of C that is wrong, what it is and should be; None: there is none.
        """
        size = square(region)
        row_parts = size // 8
        updates, within = divmod(int(state[STEPS]), row_parts * size)
        k = updates % size
        rows, parts = divmod(within, row_parts)
        a, b, c = (_matrix(memory, region, which) for which in range(MATRICES))
        for first in range(0, size, _BLOCK_ROWS):
            end = min(first + _BLOCK_ROWS, size)
            if k == 0 and updates == 0 and first > rows:
                return None  # not reached yet: still what memory was filled with
            done = k if k else (size if updates else 0)
            expected = a[first:end, :done] @ b[:done]
            for row in range(first, min(end, rows + 1)):
                columns = size if row < rows else parts * 8
                update = a[row, k] * b[k, :columns]
                if k == 0:
                    expected[row - first, :columns] = update
                else:
                    expected[row - first, :columns] += update
            wrong = c[first:end] != expected
            if updates == 0:
                _forget_untouched(wrong, first, rows, parts * 8)
            if wrong.any():
                i, j = (int(x) for x in np.argwhere(wrong)[0])
                return (
                    f"C[{first + i}, {j}] is {c[first + i, j]!r}, expected {expected[i, j]!r}"
                    f" after {updates} updates and {rows} rows"
                )
        return None


def _forget_untouched(wrong: NDArray[np.bool_], first: int, rows: int, columns: int) -> None:
    """Forget what differs beyond the steps done: C is as memory was filled there.

    That is so until the first update is complete.
    """
    partial = rows - first
    if partial < len(wrong):
        wrong[max(partial + 1, 0) :] = False
        if partial >= 0:
            wrong[partial, columns:] = False


def _matrix(memory: GuestMemory, region: Region, which: int) -> NDArray[np.float64]:
    """Return float64[n, n]: A, B or C, a view of guest memory."""
    size = square(region)
    first = (region.first_page + which * third(region)) * WORDS_PER_PAGE
    return memory.words[first : first + size * size].view(np.float64).reshape(size, size)
