"""What an agent takes of its host, and whether that is there before anything starts.

The figures were measured with agents of small guests, and rounded up: an agent whose kernels are
loaded touches 80 MiB beside its guest, one that waits 60. Compiling kernels takes 130 more.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pageferry.common.capacity.cpus import usable_cpus
from pageferry.common.capacity.descriptors import (
    check_children,
    check_descriptors,
    descriptor_limit,
)
from pageferry.common.capacity.memory import MIB, check_memory, own_rooms, rough_size
from pageferry.common.capacity.tasks import check_tasks
from pageferry.common.config.guest import GuestConfig
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import UsageError
from pageferry.common.process.heap import one_arena
from pageferry.common.units import format_size

OVERHEAD: Final = 1.05  # memory beside the guest's own: dirty logs and bookkeeping
AGENT: Final = 96 * MIB
SESSION: Final = 40 * MIB  # of that, what an agent has not taken before its first guest
COMPILING: Final = 128 * MIB
_SMALL_CACHE: Final = 64 * MIB
_CACHE: Final = 1.25  # lines, and a word for each line line
_BENCH: Final = 4 * MIB  # for pages on their way through a codec, and its output
_CHANNEL: Final = 2 * MIB
_MAPPED: Final = 420 * MIB  # address space of an agent: mostly its libraries
_MOST_STACK: Final = 8 * MIB
_WORKERS: Final = 4

# Descriptors of a process that has loaded everything, and those a session adds.
_OWN: Final = 16
_SPARE: Final = 8  # files that are open for a moment
_TLS: Final = 3
_CONTROL: Final = 4  # of a host: its socket, its clients, and what it waits for
_HOST_TASKS: Final = 4
_SOURCE_CHANNEL: Final = 3  # a socket, and a pipe where pages are sent without a copy


@dataclass(frozen=True, slots=True)
class Needs:
    """What a process takes.

    Attributes:
        touched: Bytes of memory that it will have touched.
        mapped: Bytes of address space.
        descriptors: File descriptors, all that it will have open.
        tasks: Threads.
        guest: What they are for, in words; empty: for whatever may come.
    """

    touched: int
    mapped: int
    descriptors: int
    tasks: int
    guest: str


def encoder_workers() -> int:
    """Return how many threads compress: a core compresses more than most links carry.

    Returns:
        At least 1, at most 4.
    """
    return min(usable_cpus().count, _WORKERS)


def guest_bytes(guest: GuestConfig) -> int:
    """Estimate what a guest will have touched, with its cache and the records of its pages.

    Args:
        guest: `memory` and `cache` are looked at.

    Returns:
        Bytes.
    """
    return round(guest.memory * OVERHEAD + guest.cache * _CACHE)


def guest_words(guest: GuestConfig) -> str:
    """Describe the guest for a message, and its cache where that is a share worth mentioning.

    Args:
        guest: `memory` and `cache` are looked at.

    Returns:
        A noun phrase: `a guest of ...`.
    """
    words = f"a guest of {format_size(guest.memory)}"
    if guest.cache > max(guest.memory // 10, _SMALL_CACHE):
        words += f" and a cache of {format_size(guest.cache)} (--cache)"
    return words


def encoder_bytes(config: MigrationConfig) -> int:
    """Estimate what compression and deltas take at the source.

    Args:
        config: `compress`, `delta`, `delta_memory` and `channels` are looked at.

    Returns:
        Bytes; 0 where neither is used.
    """
    if config.compress == "none" and config.delta == "none":
        return 0
    benches = config.channels * (encoder_workers() + 1) + 1
    return round(config.delta_memory * OVERHEAD) + benches * _BENCH


def check_guest(
    guest: GuestConfig, *, more: int = 0, beside: int = 0, compiled: bool = True
) -> None:
    """Check that an agent that already runs can have this guest, too.

    Args:
        guest: The guest that is to be made in this process.
        more: Bytes that go with it.
        beside: Bytes that others have booked and not touched yet, so that they still look free.
        compiled: Its kernels need not be compiled here first, which takes memory as well.

    Raises:
        UsageError: There is not enough memory.
    """
    what = guest_words(guest)
    size = guest_bytes(guest) + SESSION + more
    check_memory(what, size, beside=beside)
    if not compiled:
        what += ", whose kernels have yet to be compiled here,"
        check_memory(what, size + COMPILING, beside=beside)


def source_needs(config: MigrationConfig, *, tls: bool = False) -> Needs:
    """Estimate what a source agent takes, from its start on.

    Args:
        config: The migration.
        tls: Whether connections are encrypted, which takes further descriptors.

    Returns:
        Its needs, guest included.
    """
    guest, encoding_bytes = config.guest, encoder_bytes(config)
    touched = guest_bytes(guest) + encoding_bytes + config.channels * _CHANNEL
    tasks = 8 + config.channels + guest.vcpus + (encoder_workers() if encoding_bytes else 0)
    more = source_descriptors(config, tls=tls)
    return _needs(config, touched, tasks, more)


def source_descriptors(config: MigrationConfig, *, tls: bool = False) -> int:
    """Return how many descriptors a session at the source adds, its guest's included.

    Args:
        config: `channels` and `vcpus` are looked at.
        tls: Whether connections are encrypted.

    Returns:
        Descriptors.
    """
    return _SOURCE_CHANNEL * config.channels + config.vcpus + 7 + _TLS * tls


def dest_needs(config: MigrationConfig, *, tls: bool = False) -> Needs:
    """Estimate what a destination agent takes that receives this guest.

    Args:
        config: The migration; `LEAST` where it is not known yet.
        tls: Whether connections are encrypted, which takes further descriptors.

    Returns:
        Its needs, guest included.
    """
    touched = guest_bytes(config.guest) + config.channels * _CHANNEL
    tasks = dest_tasks(config.channels, config.vcpus)
    more = dest_descriptors(config.channels, config.vcpus, tls=tls)
    return _needs(config, touched, tasks, more)


def dest_tasks(channels: int, vcpus: int) -> int:
    """Return how many threads a destination's session has, with those that it runs.

    Args:
        channels: Data connections.
        vcpus: vCPUs of its guest.

    Returns:
        Threads.
    """
    return 6 + channels + vcpus


def dest_descriptors(channels: int, vcpus: int, *, tls: bool = False) -> int:
    """Return how many descriptors a session at the destination adds, its guest's included.

    Args:
        channels: Data connections.
        vcpus: vCPUs of its guest.
        tls: Whether connections are encrypted.

    Returns:
        Descriptors.
    """
    return channels + vcpus + 9 + _TLS * tls


def _needs(config: MigrationConfig, touched: int, tasks: int, descriptors: int) -> Needs:
    mapped = _MAPPED + touched + tasks * _stack()
    guest = "" if config is LEAST else guest_words(config.guest)
    return Needs(AGENT + touched, mapped, _OWN + _SPARE + descriptors, tasks, guest)


def _stack() -> int:
    """Return the address space of a thread's stack, as glibc maps it."""
    soft = resource.getrlimit(resource.RLIMIT_STACK)[0]
    return soft if 0 < soft < 2**40 else _MOST_STACK


LEAST: Final = MigrationConfig(memory=MIB, cache=0)  # the least that an agent is started for


def check_pair(config: MigrationConfig, *, tls: bool = False) -> None:
    """Check that both agents of a migration can be started here.

    Args:
        config: The migration.
        tls: Whether connections are encrypted.

    Raises:
        UsageError: This host lacks memory, descriptors, threads or address space.
    """
    source, dest = source_needs(config, tls=tls), dest_needs(config, tls=tls)
    what = f"an agent with {config.channels} channel(s) and {config.vcpus} vCPU(s)"
    check_children(what, max(source.descriptors, dest.descriptors))
    check_tasks("a migration between two agents here", source.tasks + dest.tasks)
    _check_mapped(what, max(source, dest, key=lambda needs: needs.mapped))
    both = pair_bytes(config)
    check_memory(f"{guest_words(config.guest)} with an agent at both ends", both, here=False)


def pair_bytes(config: MigrationConfig) -> int:
    """Estimate what two agents and their guests will have touched.

    Args:
        config: The migration.

    Returns:
        Bytes of both together.
    """
    return source_needs(config).touched + dest_needs(config).touched


def check_some_pair(configs: Iterable[MigrationConfig], *, tls: bool = False) -> None:
    """Check before a series that at least one of its migrations can be run here.

    If some can, each of the others is refused when its turn comes.

    Args:
        configs: The migrations; read until one fits.
        tls: Whether connections are encrypted.

    Raises:
        UsageError: Not one of them can be run; says why for the first.
    """
    refusal: UsageError | None = None
    for config in configs:
        try:
            check_pair(config, tls=tls)
        except UsageError as error:
            refusal = refusal or error
        else:
            return
    if refusal is not None:
        raise refusal


def _check_mapped(what: str, needs: Needs) -> None:
    """Check the needs of a process that starts afresh against the whole of its limits."""
    guest = f" for {needs.guest}" if needs.guest else ""
    for room in own_rooms():
        if needs.mapped > room.limit:
            raise UsageError(
                f"{what}{guest} needs {rough_size(needs.mapped)} of address space, and"
                f" {room.source} may have {rough_size(room.limit)}"
            )


def host_needs(*, tls: bool = False) -> Needs:
    """Estimate what a host takes that receives one guest, or sends one.

    Args:
        tls: Whether connections are encrypted.

    Returns:
        Its needs; memory is that of the smallest guest.
    """
    source, dest = source_needs(LEAST, tls=tls), dest_needs(LEAST, tls=tls)
    mapped, tasks = max(source.mapped, dest.mapped), max(source.tasks, dest.tasks)
    descriptors = max(source.descriptors, dest.descriptors) + _CONTROL
    return Needs(dest.touched, mapped, descriptors, tasks + _HOST_TASKS, guest="")


def start_agent(what: str, needs: Needs) -> None:
    """Check, at the start of a process that is to be an agent, that it can be one.

    Memory is not checked: that is done once it is known how much is free. Where address space is
    limited, malloc is confined to one arena from here on.

    Args:
        what: Who needs it, the subject of a message's sentence.
        needs: What it will take.

    Raises:
        UsageError: There are not enough descriptors, threads, or address space.
    """
    check_descriptors(what, needs.descriptors - min(4, descriptor_limit()))
    check_tasks(what, needs.tasks)
    if own_rooms():
        _check_mapped(what, needs)
        one_arena()
