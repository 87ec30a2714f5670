"""The workload that replays a trace: the contract of all workloads, and a plain model of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import RemoteProtocolError, UsageError
from pageferry.common.files.memory_trace import TraceMeta, open_trace, write_trace
from pageferry.common.guest.compiling import compile_kernels
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.workloads.making import make_workload
from pageferry.common.workload.registry import parse_workload
from tests.unit.common.guest.conftest import MakeGuest
from tests.unit.common.guest.test_workloads import TestContract as WorkloadContract

GOLDEN = 0x9E3779B97F4A7C15
MASK = 2**64 - 1
WriteTrace = Callable[..., str]


def recorded(accesses: int, pages: int, seed: int = 1) -> NDArray[np.uint32]:
    """Accesses of every page, in runs, a third of them writes."""
    rng = np.random.default_rng(seed)
    page = np.repeat(rng.integers(0, pages, accesses), 3)[: accesses - pages]
    page = np.append(page, rng.permutation(pages))
    line, write = rng.integers(0, 64, accesses), rng.random(accesses) < 1 / 3
    return (page << 7 | line << 1 | write).astype(np.uint32)


def save(path: Path, accesses: NDArray[np.uint32]) -> TraceMeta:
    with path.open("wb") as file:
        return write_trace(
            file, [accesses], accesses=len(accesses), instructions=False, source="a test"
        )


@pytest.fixture
def write(tmp_path: Path) -> WriteTrace:
    def make(accesses: NDArray[np.uint32], name: str = "t.npz") -> str:
        save(tmp_path / name, accesses)
        return str(tmp_path / name)

    return make


class TestTraceContract(WorkloadContract):
    @pytest.fixture(params=["few pages", "more pages than memory", "odd", "one access", "paced"])
    def workload(self, request: pytest.FixtureRequest, write: WriteTrace) -> str:
        if request.param == "one access":
            return f"trace:{write(np.ones(1, np.uint32))}"
        pages = 3000 if request.param == "more pages than memory" else 100
        rate = ",rate=4GB/s" if request.param == "paced" else ""
        return f"trace:{write(recorded(20_000 + (request.param == 'odd'), pages))}{rate}"

    @pytest.fixture(params=[1, 2])
    def vcpus(self, request: pytest.FixtureRequest) -> int:
        return int(request.param)


def replayed(
    guest: Guest, accesses: NDArray[np.uint32], steps: list[int]
) -> tuple[NDArray[np.uint64], list[int]]:
    """What memory must hold, and the sum of what each vCPU has read."""
    words = guest.memory.words.tolist()
    traced = int(accesses.max()) // 128 + 1
    sums = []
    for vcpu, count in enumerate(steps):
        cuts = [guest.n_pages * i // len(steps) for i in (vcpu, vcpu + 1)]
        part = cuts[1] - cuts[0]
        start = len(accesses) * vcpu // len(steps)
        total = 0
        for step in range(count):
            item = int(accesses[(start + step) % len(accesses)])
            page, line = item // 128, item // 2 % 64
            if traced > part:
                page = page * part // traced
            word = ((cuts[0] + page) * 64 + line) * 8 + (page + line) % 8
            if item % 2:
                words[word] = (words[word] + (step * GOLDEN & MASK | 1)) & MASK
            else:
                total = (total + words[word]) & MASK
        sums.append(total)
    return np.array(words, np.uint64), sums


class TestReplay:
    @pytest.mark.parametrize("pages", [40, 128, 129, 700])
    @pytest.mark.parametrize("vcpus", [1, 2, 3])
    def test_as_a_plain_model_does_it(
        self, make_guest: MakeGuest, write: WriteTrace, pages: int, vcpus: int
    ) -> None:
        accesses = recorded(2001, pages)
        options = {"memory": "512KiB", "cache": 0, "vcpus": vcpus}
        guest = make_guest(workload=f"trace:{write(accesses)}", **options)
        steps = [5000 - 7 * vcpu for vcpu in range(vcpus)]
        expected, sums = replayed(guest, accesses, steps)
        guest.run_until(steps)
        np.testing.assert_array_equal(guest.memory.words, expected)
        states = [np.frombuffer(raw, "<u8") for raw in guest.snapshot()["vcpus"]]
        assert [int(state[1]) for state in states] == sums

    def test_lines_that_are_written(self, make_guest: MakeGuest, write: WriteTrace) -> None:
        accesses = recorded(4000, 50)
        guest = make_guest(workload=f"trace:{write(accesses)}", cache=0)
        guest.run_until([4000])
        masks = guest.harvest()
        written = accesses[accesses % 2 == 1]
        lines = np.unique(written >> 1)
        assert int(np.bitwise_count(masks).sum()) == len(lines)
        assert not masks[50:].any()
        assert all(int(masks[line >> 6]) >> int(line & 63) & 1 for line in lines)

    def test_a_trace_larger_than_memory_fills_it(
        self, make_guest: MakeGuest, write: WriteTrace
    ) -> None:
        accesses = (np.arange(5000, dtype=np.uint32) << 7) | 1
        guest = make_guest(workload=f"trace:{write(accesses)}", cache=0)
        guest.run_until([5000])
        assert (guest.harvest() != 0).all()

    def test_zero_share_is_kept_by_a_traces_guest(
        self, make_guest: MakeGuest, write: WriteTrace
    ) -> None:
        guest = make_guest(workload=f"trace:{write(recorded(200, 5))},zero-share=50%")
        zero = guest.memory.zero_pages(np.arange(guest.n_pages))
        assert 0.4 < zero.mean() < 0.6


class TestWhichTrace:
    """The content is part of what the guest is."""

    def test_the_configuration_says_which_content(
        self, make_guest: MakeGuest, write: WriteTrace
    ) -> None:
        name = write(recorded(100, 5))
        digest = open_trace(name).meta.digest
        for text, pinned in (
            (f"trace:{name}", f"trace:{name},digest={digest}"),
            (f"trace:file={name},rate=1MB/s", f"trace:file={name},rate=1MB/s,digest={digest}"),
            (f"trace:digest=any,file={name}", f"trace:digest={digest},file={name}"),
            (f"trace:{name},digest={digest}", f"trace:{name},digest={digest}"),
        ):
            guest = make_guest(workload=text, start=False)
            assert guest.config.workload == pinned
            assert Guest(guest.config, boot=False).config == guest.config

    def test_other_workloads_are_said_as_they_are(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="uniform:lines=3", start=False)
        assert guest.config.workload == "uniform:lines=3"

    def test_another_content_is_refused(self, make_guest: MakeGuest, write: WriteTrace) -> None:
        source = make_guest(workload=f"trace:{write(recorded(100, 5))}", start=False)
        write(recorded(100, 5, seed=2))
        with pytest.raises(UsageError, match=r"is another one here: its digest is .*, expected"):
            Guest(source.config, boot=False)

    def test_a_snapshot_of_another_content_is_refused(
        self, make_guest: MakeGuest, write: WriteTrace
    ) -> None:
        workload = f"trace:{write(recorded(100, 5))}"
        source = make_guest(workload=workload)
        write(recorded(100, 5, seed=2))
        there = make_guest(workload=workload, boot=False, start=False)
        with pytest.raises(RemoteProtocolError, match="another workload"):
            there.restore(source.snapshot())

    def test_a_replaced_file_does_not_disturb_a_guest(
        self, make_guest: MakeGuest, write: WriteTrace, tmp_path: Path
    ) -> None:
        accesses = recorded(1000, 5)
        guest = make_guest(workload=f"trace:{write(accesses)}", cache=0)
        expected, _ = replayed(guest, accesses, [3000])
        write(recorded(10, 1), "other.npz")
        (tmp_path / "other.npz").rename(tmp_path / "t.npz")
        guest.run_until([3000])
        np.testing.assert_array_equal(guest.memory.words, expected)


class TestUsage:
    def test_kernels_are_compiled_with_the_trace_itself(self, write: WriteTrace) -> None:
        compile_kernels(GuestConfig(workload=f"trace:{write(recorded(5000, 500))}"))

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ("", "no file is named: expected trace:FILE"),
            (":", "no file is named: expected trace:FILE"),
            (":rate=1MB/s", "no file is named"),
            (":/nonexistent/a=b.npz", "'/nonexistent/a=b.npz' can't be read: No such file"),
            (":file=/nonexistent/t.npz", "'/nonexistent/t.npz' can't be read: No such file"),
            (":/", "'/' can't be read: not a regular file"),
            (":/dev/zero", "not a regular file"),
            (":/etc/passwd", "is no trace: expected a file made by `pageferry trace import`"),
            (":a\0b", "no name of a file"),
            (":\udcff.npz", "is not UTF-8: rename the file"),
            (":t.npz,digest=12", "'12' is not a digest: expected 32 hexadecimal digits, or any"),
            (":t.npz,lines=2", "no option 'lines': it has file, digest, rate, zero-share, entropy"),
            (":t.npz,u.npz", "'u.npz' is not key=value"),
            (":t.npz,file=u.npz", "file is given twice"),
            (":t.npz,rate=0", "more than zero"),
        ],
    )
    def test_a_trace_that_cannot_be_had_is_refused_in_one_line(
        self, options: str, says: str
    ) -> None:
        with pytest.raises(UsageError) as error:
            make_workload(parse_workload("trace" + options))
        assert says in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_name_too_long_to_be_sent(self, make_guest: MakeGuest, tmp_path: Path) -> None:
        folder = tmp_path / ("a" * 200) / ("b" * 200)
        folder.mkdir(parents=True)
        path = folder / "t.npz"
        save(path, recorded(100, 5))
        text = f"trace:{path}"
        with pytest.raises(UsageError, match=r"\d+ characters, at most 512 fit"):
            make_guest(workload=text + ",zero-share=0.0" + "0" * (512 - len(text) - 15))
