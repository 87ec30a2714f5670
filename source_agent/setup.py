"""What a session needs before its first page: the guest, its setup message, its strategy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pageferry.common.capacity.agents import check_guest, encoder_bytes
from pageferry.common.capacity.memory import check_memory
from pageferry.common.config.model import MigrationConfig
from pageferry.common.guest.compiling import compile_kernels, is_compiled
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.strategy import make_strategy
from pageferry.common.strategy.base import Strategy
from pageferry.common.strategy.deadline import Deadline
from pageferry.common.timeline import Timeline
from pageferry.common.wire import bitmap, messages
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.precopy.compressing_encoder import CompressingEncoder
from pageferry.source_agent.resident_guest import Resident


def boot_guest(
    config: MigrationConfig, notify: Callable[[str], None], witness: Path | None
) -> Guest:
    """Make a guest of this session alone. Blocks: it compiles, and fills memory.

    Args:
        config: What the guest is like, and what is kept of its writes.
        notify: Is told in one line before kernels have to be compiled.
        witness: File in which the guest's heartbeats are kept, for tests; None: no file.

    Returns:
        A guest that has not been started; the caller closes it.

    Raises:
        UsageError: There is no memory for it.
    """
    more, compiled = encoder_bytes(config), is_compiled(config.workload)
    check_guest(config.guest, more=more, compiled=compiled)
    compile_kernels(config.guest, notify)
    guest = Guest(
        config.guest,
        boot=True,
        vcpu_nice=config.vcpu_nice,
        count_writes=config.count_writes,
        witness=witness,
    )
    if config.dirty_tracker == "kernel":
        guest.track_by_kernel()
    return guest


def setup_message(
    config: MigrationConfig, guest: Guest, resident: Resident | None
) -> messages.Setup:
    """Make the message that tells the destination all it has to know.

    Blocks: it may read all of the guest's memory.

    Args:
        config: How the guest is to travel.
        guest: The guest that will come; its zero pages are looked for.
        resident: Under which name the destination keeps it; None: it is stopped and digested there.

    Returns:
        The setup message.
    """
    return messages.Setup(
        guest=guest.config,
        channels=config.channels,
        congestion=config.congestion,
        run_after=config.run_after,
        verify=config.verify,
        checksum=config.checksum,
        vcpu_nice=config.vcpu_nice,
        keep=resident.name if resident else None,
        postcopy=_postcopy_setup(config),
        expected=_expected(config, guest),
        compress=config.compress,
        delta=config.delta,
    )


def _postcopy_setup(config: MigrationConfig) -> messages.PostcopySetup | None:
    if not config.may_switch:
        return None
    return messages.PostcopySetup(
        faults=config.faults,
        prepage=config.prepage.on_wire,
        recover_timeout=config.recover_timeout,
        trace_faults=config.trace_faults,
    )


def _expected(config: MigrationConfig, guest: Guest) -> bytes | None:
    """Summarize the pages that the destination should have in memory before they come.

    Zero pages are not among them, so that a sparse guest stays sparse. None where the guest is to
    run there before any page has come: a page that is there does not fault.
    """
    if not config.begins_with_all:
        return None
    return bitmap.summary(~guest.memory.zero_pages(np.arange(guest.n_pages)))


def make_encoder(
    config: MigrationConfig, memory: GuestMemory, timeline: Timeline, stream: StreamFormat
) -> CompressingEncoder | None:
    """Make what compresses pages or encodes deltas. Blocks: it maps its cache, and compiles.

    Args:
        config: Says how much memory the encoder takes.
        memory: Of the guest; read whenever a batch is encoded.
        timeline: Is told when compression turns itself off or on.
        stream: What both ends agreed on.

    Returns:
        The encoder, which the caller closes; None where pages travel as they are.

    Raises:
        UsageError: There is no memory for it beside a guest that is here already.
    """
    if stream.codec is None and not stream.deltas:
        return None
    check_memory("what --compress and --delta work with", encoder_bytes(config))
    return CompressingEncoder(memory, timeline, stream, delta_cache=config.delta_memory)


def strategy_for(config: MigrationConfig) -> Strategy:
    """Make the strategy that was asked for, with a deadline where one is to end its rounds.

    Args:
        config: Says which strategy, and what `--timeout` does. The session itself cancels at a
            timeout, so `cancel` needs no deadline here.

    Returns:
        A strategy that has not begun.

    Raises:
        UsageError: No strategy has this name.
    """
    strategy = make_strategy(config)
    if config.timeout is None or config.timeout_action == "cancel":
        return strategy
    return Deadline(strategy, config.timeout, config.timeout_action)
