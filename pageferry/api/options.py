"""Keywords of the API's functions.

Made by `python -m scripts.api_options` of the models that make the command line: change it there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypedDict


class _Guest(TypedDict, total=False):
    """The guest."""

    memory: int | str
    """SIZE of guest memory."""
    vcpus: int
    """number of vCPU threads."""
    workload: str
    """what the guest does: NAME[:key=value,...], see pageferry workload list."""
    seed: int
    """seed of the guest's memory and workload."""
    cache_line: int | str
    """bytes of a cache line."""
    cache_ways: int
    """ways of a cache set."""


class _Strategy(TypedDict, total=False):
    """Decisions."""

    low: float | str
    """SHARE changed below which path 1 is taken."""
    high: float | str
    """SHARE changed from which path 3 is taken."""
    max_rounds: int
    """fixed number of rounds of path 2, most rounds of pre-copy."""
    path3: Literal["stop-and-copy", "post-copy"]
    """how path 3, and a path 2 out of rounds, hands over."""
    downtime_limit: float | str
    """pre-copy and hybrid stop when what is left fits in this TIME."""
    postcopy_after: str
    """when hybrid switches: rounds=N, time=TIME or stall."""
    auto_converge: bool
    """slow the guest down when its rounds do not shrink."""
    cpu_throttle_initial: float | str
    """SHARE of its time that auto-converge takes first."""
    cpu_throttle_increment: float | str
    """SHARE that each further step takes at least."""
    max_cpu_throttle: float | str
    """SHARE that auto-converge takes at most."""


class _Transfer(_Strategy, total=False):
    """How a guest travels."""

    max_bandwidth: float | str
    """RATE limit, everything on the wire counted, or unlimited, which it is where a link with a
    rate is given.
    """
    pacing: Literal["bucket", "kernel"]
    """who spaces the bytes out: our own schedule, or the kernel by socket."""
    channels: int
    """parallel TCP connections for pages."""
    checksum: bool
    """a checksum a frame: what the wire changed is never used."""
    compress: Literal["none", "zstd", "lz4"]
    """batches of pages travel compressed where that is shorter."""
    delta: Literal["none", "xbzrle"]
    """pages sent before travel as what has changed, where that is shorter."""
    delta_cache: int | str
    """SIZE of the cache of pages for --delta."""
    dirty_limit: float | str | None
    """RATE of dirtied pages to which each vCPU is slowed down."""
    dirty_tracker: Literal["log", "kernel"]
    """log: the guest's own; kernel: write protection, whole pages only."""
    congestion: str
    """TCP congestion control of both ends."""
    recover_timeout: float | str
    """how long a lost peer is waited and asked for."""
    recover_to: str
    """HOST[:PORT],... where a lost destination is looked for, too, in turn."""
    stall_timeout: float | str
    """a peer that is silent for this TIME is taken for gone."""
    timeout: float | str | None
    """TIME after which --timeout-action is taken."""
    timeout_action: Literal["cancel", "stop-and-copy", "post-copy"]
    """what is done at --timeout, unless the hand-over has begun."""
    inject: Sequence[str]
    """make it fail: POINT:ACTION, as 'pageferry inject list' has them."""
    faults: Literal["auto", "kernel", "software"]
    """how post-copy stops a guest at a missing page."""
    prepage: str
    """pages sent with a demanded one: N or adaptive."""
    trace_faults: bool
    """report every fault of post-copy."""
    assume_bandwidth: float | str | None
    """RATE that --predict reckons with where --max-bandwidth is more."""


class _Run(_Guest, _Transfer, total=False):
    """What all functions have."""

    count_writes: bool
    """report each page's writes, and those the cache absorbed (slower guest)."""
    warmup: float | str
    """TIME the guest runs before the migration starts."""
    run_after: float | str
    """TIME the guest runs at the destination afterwards."""
    verify: bool
    """replay the guest at the source and compare digests."""
    vcpu_nice: int
    """niceness of vCPU threads: the stream goes first, guests may starve."""


class _Net(TypedDict, total=False):
    """The network."""

    shaper: Literal["auto", "tc", "tun"]
    """tc: the kernel's queues; tun: a userspace link; auto: tc where it will do."""
    offloads: Literal["auto", "on", "off"]
    """the userspace link takes packets in pieces of up to 64 KiB; auto: unless packets are lost
    or overtake, or the rate is below 500mbit.
    """
    schedule: Sequence[str]
    """what changes: 'at 3s rate=10mbit; at 5s outage=2s'."""
    net: str | None
    """a link of its own, as in
    rate=800mbit,delay=5ms,jitter=1ms,loss=0.1%,reorder=1%,queue=50ms; rate-back=... where the
    way back differs.
    """
    link: Literal["namespaces", "relay"] | None
    """namespaces: two of them, which takes root; relay: of connections, without loss and
    reorder; with --net the default is namespaces.
    """


class _Tls(TypedDict, total=False):
    """Keys of connections."""

    tls: str | os.PathLike[str] | None
    """TLS 1.3 with the keys of this folder (pageferry certs makes it)."""
    tls_hostname: str | None
    """NAME that the destination's certificate must have, if not HOST."""


class _Limits(TypedDict, total=False):
    """What becomes of limits."""

    enforce: bool
    """a limit that was given, or is stopped by, and was missed: exit code 5."""


class MigrateOptions(_Run, _Net, _Tls, _Limits, total=False):
    """Keywords of `migrate`."""

    strategy: Literal["three-path", "pre-copy", "post-copy", "hybrid", "stop-and-copy", "lazy-copy"]
    """how the guest is moved."""
    cache: int | str
    """SIZE of the write-back cache, all vCPUs together; 0: none."""
    granularity: Literal["page", "line"]
    """line: cached pages travel as their changed lines where that is shorter."""
    predict: bool
    """measure the guest first, and say what each strategy would cost."""
    predict_time: float | str
    """TIME for which --predict measures."""
    log_dir: str | os.PathLike[str]
    """keep a log of every event in this folder."""


class CompareOptions(_Run, _Net, _Limits, total=False):
    """Keywords of `compare`."""

    strategy: str | Sequence[str]
    """how the guest is moved; several, or one."""
    cache: int | str | Sequence[int | str]
    """SIZE of the write-back cache, all vCPUs together; 0: none; several, or one."""
    granularity: str | Sequence[str]
    """line: cached pages travel as their changed lines where that is shorter; several, or one."""
    strategies: str | Sequence[str]
    """how the guest is moved; several, or one."""
    runs: int
    """runs of each row, in turn: medians and spread."""
    predict: bool
    """measure the guest first, and say what each strategy would cost."""
    predict_time: float | str
    """TIME for which --predict measures."""
    log_dir: str | os.PathLike[str]
    """keep a log of every event in this folder."""


class PredictOptions(_Run, total=False):
    """Keywords of `predict`."""

    strategy: Literal["three-path", "pre-copy", "post-copy", "hybrid", "stop-and-copy", "lazy-copy"]
    """how the guest is moved."""
    cache: int | str
    """SIZE of the write-back cache, all vCPUs together; 0: none."""
    granularity: Literal["page", "line"]
    """line: cached pages travel as their changed lines where that is shorter."""
    measure: float | str
    """TIME for which the guest is measured."""


class SimulateOptions(_Run, _Limits, total=False):
    """Keywords of `simulate`."""

    strategy: Literal["three-path", "pre-copy", "post-copy", "hybrid", "stop-and-copy", "lazy-copy"]
    """how the guest is moved."""
    cache: int | str
    """SIZE of the write-back cache, all vCPUs together; 0: none."""
    granularity: Literal["page", "line"]
    """line: cached pages travel as their changed lines where that is shorter."""
    link: str
    """rate=RATE,delay=TIME (one way; or rtt=TIME),loss=SHARE,mss=SIZE,window=SIZE."""
    guest_speed: float | None
    """steps a second of a vCPU that runs flat out; none: 100e6 in order, 10e6 at random."""
    from_file: str | os.PathLike[str] | None
    """re-run the migration of this REPORT.json, and say how far off it is."""


class SweepOptions(TypedDict, total=False):
    """Keywords of `sweep`."""

    runner: str | None
    """migrate or simulate, in the place of the plan's own; the FOLDER's name then ends in
    -RUNNER.
    """
    filter: str | None
    """only cells like this: OPTION=VALUE[|VALUE...],... as in strategy=hybrid."""
    retry_failed: bool
    """run cells again that have failed."""
    scheduler: str | None
    """run the cells on the Dask cluster at this ADDRESS, tcp://HOST:8786."""
    log_dir: str | os.PathLike[str] | None
    """keep a log of every event of each cell in this folder."""
    enforce: bool
    """a limit of a cell that was missed: exit code 5."""


class GuestAndTransfer(_Run, total=False):
    """Keywords of a migration to an agent that runs."""

    strategy: Literal["three-path", "pre-copy", "post-copy", "hybrid", "stop-and-copy", "lazy-copy"]
    """how the guest is moved."""
    cache: int | str
    """SIZE of the write-back cache, all vCPUs together; 0: none."""
    granularity: Literal["page", "line"]
    """line: cached pages travel as their changed lines where that is shorter."""
    predict: bool
    """measure the guest first, and say what each strategy would cost."""
    predict_time: float | str
    """TIME for which --predict measures."""


class GuestOptions(_Guest, total=False):
    """Keywords of a guest."""

    cache: int | str
    """SIZE of the write-back cache, all vCPUs together; 0: none."""


class TransferOptions(_Transfer, total=False):
    """Keywords of a move."""

    strategy: Literal["three-path", "pre-copy", "post-copy", "hybrid", "stop-and-copy", "lazy-copy"]
    """how the guest is moved."""
    granularity: Literal["page", "line"]
    """line: cached pages travel as their changed lines where that is shorter."""
    warmup: float | str
    """TIME the guest runs before the migration starts."""
    run_after: float | str
    """TIME the guest runs at the destination afterwards."""
    predict: bool
    """measure the guest first, and say what each strategy would cost."""
    predict_time: float | str
    """TIME for which --predict measures."""
