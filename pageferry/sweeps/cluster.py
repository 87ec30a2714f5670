"""Cells on a Dask cluster that exists already: one at a time on each worker.

Each idle worker gets one cell; what comes back is stored here, so that the folder is on this
machine only. If a worker is lost, its cell goes to another one; a worker that can't run cells gets
no more of them. The cluster's own rules apply: whoever may talk to its scheduler may run code on
its workers.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import secrets
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from pageferry._version import __version__
from pageferry.common.errors import PageferryError, UsageError
from pageferry.common.guest_location import TABLE, When, Who, location_sentence
from pageferry.pair import PairResult
from pageferry.runs.series import Signals
from pageferry.sweeps import worker
from pageferry.sweeps.cell import CellOutcome, Order
from pageferry.sweeps.cells import Cell
from pageferry.sweeps.driver import Clock, Store, SweepWatcher, option_texts, store_outcome
from pageferry.sweeps.environment import cluster_environment, environment, version_differences
from pageferry.sweeps.plan import one_line
from pageferry.sweeps.runners import Runner
from pageferry.sweeps.workers_memory import WorkerRoom, WorkersMemory

_ANSWER_S: Final = 10.0  # a scheduler that is there answers well before
_LOOK_S: Final = 0.5  # how often workers are counted, and a signal is looked for
_ALONE_S: Final = 300.0  # how long a cluster may have no usable worker
_ENDING_S: Final = 20.0  # cancelled cells end within this
_MOST_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class _Task:
    """A cell on its way.

    Attributes:
        worker: The worker's address.
        token: Of its order.
        tries: How many workers have been given it, this one included.
    """

    cell: Cell
    worker: str
    token: str
    clock: Clock
    tries: int


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Hold a connection to a scheduler.

    Silences the loggers of `distributed` for the rest of the process.

    Args:
        address: As in `--scheduler`: `tcp://HOST:8786`.

    Yields:
        A `distributed.Client`, which is closed at the end.

    Raises:
        UsageError: The address is malformed, or no scheduler answers there within 10 s.
    """
    parts = urlsplit(address)
    if not (parts.scheme and parts.netloc):
        raise UsageError(f"--scheduler: {address!r}: expected an address as tcp://HOST:8786")
    import dask
    import distributed

    client_of: Any = distributed.Client

    # Its own messages would mix with ours; what matters of them comes as an exception.
    for name in logging.root.manager.loggerDict:
        if name.startswith("distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        with (
            warnings.catch_warnings(),
            dask.config.set({"distributed.comm.timeouts.connect": f"{_ANSWER_S}s"}),
        ):
            # Differences between workers are told in our own words: `_compare`.
            mismatch = distributed.versions.VersionMismatchWarning
            warnings.simplefilter("ignore", mismatch)
            client = client_of(address, timeout=_ANSWER_S)
    except (OSError, ValueError, RuntimeError) as error:
        why = one_line(str(error)) or type(error).__name__
        raise UsageError(f"--scheduler: no scheduler answers at {address}: {why}") from None
    try:
        yield client
    finally:
        client.close(timeout=_ANSWER_S)


def _wait() -> Any:
    import distributed

    return distributed.wait


class Cluster:
    """A sweep on the workers of a scheduler.

    Args:
        client: A connected `distributed.Client`; the caller closes it.
        runner: Runs cells; the workers find it by its name.
        store: Takes each cell that has finished.
        watcher: Gets all progress.
        signals: Entered by the caller.
    """

    def __init__(
        self, client: Any, *, runner: Runner, store: Store, watcher: SweepWatcher, signals: Signals
    ) -> None:
        self._client = client
        self._runner = runner
        self._store = store
        self._watcher = watcher
        self._signals = signals
        self._waiting: deque[tuple[Cell, int]] = deque()
        self._running: dict[Any, _Task] = {}
        self._versions: dict[str, dict[str, str]] = {}  # of Python and libraries, by worker
        self._memory = WorkersMemory()
        self._useless: dict[str, str] = {}  # a worker, and why it can't run cells

    def run(self, cells: Sequence[Cell]) -> bool:
        """Run cells until all are done or a signal comes, which cancels those that run.

        Args:
            cells: In the order in which they are handed out.

        Returns:
            Whether a signal came.

        Raises:
            UsageError: A worker has another version, there are no workers, or the store can't be
                written.
            PageferryError: No worker can run cells, none has been there for 300 s, or the scheduler
                is lost.
        """
        try:
            return self._run(cells)
        except (OSError, concurrent.futures.CancelledError) as error:
            # Our own `OSError` are the disk's only, and those have become `UsageError`.
            why = one_line(str(error)) or type(error).__name__
            raise PageferryError(
                f"the scheduler is lost, what has finished is kept: {why}"
            ) from None

    def _run(self, cells: Sequence[Cell]) -> bool:
        self._check_workers()
        self._waiting.extend((cell, 1) for cell in cells)
        useful_s = time.monotonic()
        while (self._waiting or self._running) and not self._signals.seen:
            present = self._present()
            self._give(present)
            self._collect()
            self._take_back(present)
            if present:
                useful_s = time.monotonic()
            elif time.monotonic() - useful_s > _ALONE_S:
                raise PageferryError(f"the cluster has had no worker for {_ALONE_S:.0f} s")
        if self._signals.seen:
            self._cancel()
        return self._signals.seen

    def _workers(self) -> list[str]:
        return sorted(self._client.nthreads())

    def _present(self) -> list[str]:
        """List the workers that can be used. Raises `PageferryError` if all are known useless."""
        workers = self._workers()
        present = [each for each in workers if each not in self._useless]
        if workers and not present and not self._running:
            raise PageferryError(f"no worker can run cells: {self._useless[workers[0]]}")
        return present

    def _check_workers(self) -> None:
        """Refuse workers of another version, or none at all. Raises `UsageError`."""
        found = self._client.run(worker.version, on_error="return")
        if not found:
            raise UsageError("--scheduler: the cluster has no workers: start one on each machine")
        for address, said in sorted(found.items()):
            if said != __version__:
                why = f"has {said}" if isinstance(said, str) else f"can't load it: {said}"
                raise UsageError(
                    f"--scheduler: pageferry {__version__} is needed on each worker:"
                    f" {address} {one_line(why)}"
                )
        self._compare(self._client.run(worker.worker_versions, on_error="return"))
        hosts = Counter(urlsplit(address).hostname for address in found)
        for host, count in hosts.items():
            if count > 1:
                self._watcher.say(
                    f"{count} workers are on {host}: their cells disturb one another's figures"
                )

    def _compare(self, found: dict[str, Any]) -> None:
        """Say how workers differ, also from here: Dask's own warning is not shown."""
        workers = {w: each for w, each in sorted(found.items()) if isinstance(each, dict)}
        self._versions = {
            address: {name: each[name] for name in environment() if name in each}
            for address, each in workers.items()
        }
        if (said := version_differences(workers)) is not None:
            self._watcher.say(
                f"the workers are not alike, and their cells' figures may differ by that: {said}"
            )
        elif (said := version_differences({"here": cluster_environment(), **workers})) is not None:
            self._watcher.say(f"the workers differ from this machine: {said}")

    def _give(self, present: Sequence[str]) -> None:
        """Give a cell to each worker that has none."""
        busy = {task.worker for task in self._running.values()}
        for address in present:
            if address in busy or not self._waiting:
                continue
            if not self._has_room(address, self._waiting[0][0]):
                continue  # until one that runs beside it has ended
            cell, tries = self._waiting.popleft()
            token = secrets.token_hex(8)
            order = Order(token=token, runner=self._runner.name, options=option_texts(cell))
            future = self._client.submit(
                worker.run_order,
                order.model_dump_json(),
                key=f"pageferry-{cell.key}-{token}",
                workers=[address],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
            self._running[future] = _Task(cell, address, token, Clock.now(), tries)
            self._watcher.began(cell, len(self._running))

    def _has_room(self, address: str, cell: Cell) -> bool:
        """Tell whether a cell may begin on a worker, which is asked before it has run any."""
        if not self._memory.knows(address):
            said = self._client.run(worker.room, workers=[address], on_error="ignore")
            if address in said:
                self._memory.learn(address, WorkerRoom.model_validate_json(said[address]))
        touches = self._runner.touches
        running = [(task.worker, touches(task.cell.config)) for task in self._running.values()]
        return self._memory.fits(address, touches(cell.config), running)

    def _collect(self) -> None:
        """Take what has finished; return after a short wait at the latest."""
        wait = _wait()
        if not self._running:
            time.sleep(_LOOK_S)
            return
        with contextlib.suppress(TimeoutError):
            wait(list(self._running), timeout=_LOOK_S, return_when="FIRST_COMPLETED")
        for future in [each for each in self._running if each.done()]:
            task = self._running.pop(future)
            if future.status == "finished":
                self._keep(task, future.result())
            elif future.status == "error":
                self._went_wrong(task, future.exception())
            else:
                self._again(task, f"{task.worker} was lost")

    def _keep(self, task: _Task, text: str) -> None:
        outcome = CellOutcome.model_validate_json(text)
        result = outcome.result
        if result is None:  # somebody else has cancelled it
            self._again(task, f"it was cancelled on {task.worker}")
        else:
            self._store_result(task, result, outcome.versions)

    def _store_result(
        self, task: _Task, result: PairResult, versions: dict[str, str] | None = None
    ) -> None:
        """Store how a cell ended, with the versions its process has told, or else its worker's."""
        store_outcome(
            task.cell,
            result,
            task.clock,
            runner=self._runner,
            store=self._store,
            watcher=self._watcher,
            worker=task.worker,
            attempts=task.tries,
            versions=versions or self._versions.get(task.worker, {}),
        )

    def _went_wrong(self, task: _Task, error: BaseException | None) -> None:
        """Give the cell to another worker: this one could not even try.

        A cell that fails is a result, and does not come here.
        """
        why = one_line(f"{task.worker}: {type(error).__name__}: {error}")
        when = When.BEFORE
        if isinstance(error, ImportError):
            when = When.NOTHING
            self._useless[task.worker] = why
            self._watcher.say(f"{why}: it is given no more cells")
        self._again(task, why, when)

    def _take_back(self, present: Sequence[str]) -> None:
        """Take back the cells of workers that have gone."""
        for future in [f for f, task in self._running.items() if task.worker not in present]:
            if future.done():
                continue  # it was in time
            task = self._running.pop(future)
            future.cancel()
            self._again(task, f"{task.worker} was lost")

    def _again(self, task: _Task, why: str, when: When = When.BEFORE) -> None:
        """Give a cell to another worker; after several it has failed.

        `when` is how far the migration may have come there, with a guest of its own.
        """
        if task.tries < _MOST_TRIES:
            self._waiting.appendleft((task.cell, task.tries + 1))
        else:
            error = location_sentence(f"{_MOST_TRIES} workers were tried: {why}", Who.SOURCE, when)
            code = TABLE[Who.SOURCE, when].exit_code
            self._store_result(task, PairResult(None, code, error))

    def _cancel(self) -> None:
        """Cancel the running cells; what finishes all the same is kept."""
        wait = _wait()
        tokens = [task.token for task in self._running.values()]
        busy = sorted({task.worker for task in self._running.values()})
        with contextlib.suppress(OSError, TimeoutError):
            self._client.run(worker.cancel_orders, tokens, workers=busy, on_error="ignore")
        with contextlib.suppress(TimeoutError):
            wait(list(self._running), timeout=_ENDING_S)
        for future, task in self._running.items():
            if future.status == "finished":
                outcome = CellOutcome.model_validate_json(future.result())
                if outcome.result is not None:
                    self._store_result(task, outcome.result, outcome.versions)
        self._client.cancel(list(self._running))
        self._running.clear()
