"""What both mechanisms must do; subclassed for each."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from typing import ClassVar

import numpy as np
import pytest

from pageferry.common.config.prepage import Prepage
from pageferry.common.errors import ConnectionBroken, LocalProtocolError, RemoteProtocolError
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder, header
from pageferry.common.wire.extents import EXTENT
from pageferry.common.workload.registry import WORKLOADS
from pageferry.dest_agent.postcopy.mechanism import Mechanism
from tests.support.postcopy_pair import Post, encode, tcp_pair, until

HOT = "uniform:working-set=50%,scatter=true"
READER = "sequential:write-share=0%,lines=1"


def wait_for_event(post: Post, timeout_s: float = 10.0) -> None:
    """Nothing is missing, or the connection has failed; that a probe was answered is told, too."""
    poll = select.poll()
    poll.register(post.faults.event_fd, select.POLLIN)
    while True:
        assert poll.poll(timeout_s * 1000)
        post.faults.clear_event()
        if post.faults.missing_count == 0 or post.faults.failure is not None:
            return


class FaultContract:
    mechanism: ClassVar[Mechanism]

    def post(self, **options: object) -> Post:
        return Post(self.mechanism, **options)  # type: ignore[arg-type]

    # -- the whole of it ----------------------------------------------------------------------

    @pytest.mark.parametrize("vcpus", [1, 2])
    @pytest.mark.parametrize("workload", sorted(n for n, c in WORKLOADS.items() if c.complete))
    def test_the_guest_is_the_one_that_left(self, workload: str, vcpus: int) -> None:
        with self.post(steps=100, workload=workload, vcpus=vcpus, cache=0) as post:
            post.arm()
            post.serve()
            post.dest.resume()
            post.push(pause_s=0.001)
            post.finish()
            stats = post.faults.stats()
            assert stats.pages_pulled + stats.pages_pushed == post.n_pages
            assert stats.duplicates <= post.server.stats().crossed

    def test_faults_alone_bring_what_is_needed(self) -> None:
        with self.post(workload=HOT, vcpus=2, prepage=Prepage("0")) as post:
            post.arm()
            post.serve()
            post.dest.resume()
            until(lambda: post.faults.missing_count <= post.n_pages // 2)
            stats = post.faults.stats()
            assert stats.pages_pulled == stats.faults == stats.requests == post.n_pages // 2
            assert stats.duplicates == 0
            post.push()
            post.finish()

    def test_it_says_when_all_is_there(self) -> None:
        with self.post(workload="idle") as post:
            post.arm()
            assert post.faults.missing_count == post.n_pages
            post.serve()
            post.push()
            wait_for_event(post)
            assert post.faults.missing_count == 0
            assert post.faults.failure is None
            post.dest.resume()
            post.finish()

    def test_without_missing_pages_there_is_no_fault(self) -> None:
        with self.post(workload=HOT) as post:
            post.dest.memory.view[:] = post.source.memory.view
            post.arm(np.zeros(post.n_pages, np.bool_))
            wait_for_event(post)
            post.dest.resume()
            post.finish()
            assert post.faults.stats().faults == 0

    # -- stale and zero pages -----------------------------------------------------------------

    @pytest.mark.parametrize("told", [True, False])
    def test_stale_pages_are_discarded_and_others_kept(self, told: bool) -> None:
        with self.post(workload=HOT, vcpus=2) as post:
            rng = np.random.default_rng(5)
            written = rng.random(post.n_pages) < 0.7
            stale = written & (rng.random(post.n_pages) < 0.5)
            missing = stale | ~written
            post.dest.memory.pages[written] = post.source.memory.pages[written]
            post.dest.memory.pages[stale] ^= np.uint64(2**64 - 1)
            post.arm(missing, written=written if told else None)
            np.testing.assert_array_equal(post.faults.missing_pages(), missing)
            assert post.faults.missing_count == np.count_nonzero(missing)
            post.server.resync(missing)
            post.serve()
            post.dest.resume()
            post.push(pause_s=0.001)
            post.finish()
            stats = post.faults.stats()
            assert stats.pages_pulled + stats.pages_pushed == np.count_nonzero(missing)

    def test_zero_pages_come_as_marks_or_were_never_written(self) -> None:
        with self.post(workload="uniform:zero-share=60%,working-set=90%", steps=200) as post:
            zero = post.source.memory.zero_pages(np.arange(post.n_pages))
            missing = ~zero
            missing[: post.n_pages // 2] = True
            post.arm(missing, written=np.zeros(post.n_pages, np.bool_))
            post.server.resync(missing)
            post.serve()
            post.dest.resume()
            until(lambda: post.faults.stats().pages_pulled > 300)
            assert post.server.stats().zero_pages > 100
            assert post.server.sent_bytes < post.server.stats().pages * PAGE_SIZE
            post.push()
            post.finish()

    # -- crossing -----------------------------------------------------------------------------

    def test_a_push_and_a_pull_that_cross(self) -> None:
        """What comes second is dropped: the guest has written to the page meanwhile."""
        with self.post(workload="sequential", cache=0) as post:
            post.arm()
            peer = post.peer()
            post.dest.resume()
            start = peer.request().page
            post.push_in(start)
            assert peer.request().page == start + 1
            assert bytes(post.dest.memory.pages[start]) != bytes(post.source.memory.pages[start])
            post.answer(peer, start)
            until(lambda: post.faults.stats().duplicates == 1)
            post.push_in(start)
            assert post.faults.stats().duplicates == 2
            post.answer(peer, *range(post.n_pages))
            until(lambda: post.faults.missing_count == 0)
            assert post.faults.stats().duplicates == 3
            assert post.faults.stats().pages_pushed == 1
            post.finish()

    def test_pages_in_the_middle_of_a_batch_are_there_already(self) -> None:
        with self.post(workload="idle") as post:
            post.arm()
            post.push_in(3, 4, 9)
            post.dest.memory.pages[4] = 7
            post.push_in(*range(20))
            stats = post.faults.stats()
            assert (stats.pages_pushed, stats.duplicates) == (20, 3)
            assert (post.dest.memory.pages[4] == 7).all()
            for page in {*range(20)} - {4}:
                np.testing.assert_array_equal(
                    post.dest.memory.pages[page], post.source.memory.pages[page]
                )

    def test_several_receivers_at_once(self) -> None:
        with self.post(workload="idle") as post:
            post.arm()
            threads = [
                threading.Thread(target=post.push_in, args=range(i, post.n_pages)) for i in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            stats = post.faults.stats()
            assert stats.pages_pushed == post.n_pages
            assert stats.duplicates == 3 * post.n_pages - 6
            assert post.faults.missing_count == 0
            post.dest.resume()
            post.finish()

    # -- the connection -----------------------------------------------------------------------

    @pytest.mark.parametrize("cut", [0, 7, 16, 20, 24, 24 + 4095, 24 + 4096, 24 + 5000])
    def test_a_connection_that_ends_anywhere(self, cut: int) -> None:
        with self.post(workload="sequential") as post:
            post.arm()
            peer = post.peer()
            post.dest.resume()
            start = peer.request().page
            whole = encoder.encode_pages_head(np.array([(start, 2)], EXTENT))
            whole += post.source.memory.view[start * PAGE_SIZE : (start + 2) * PAGE_SIZE]
            peer.sock.sendall(whole[:cut])
            came = max(0, cut - 24) // PAGE_SIZE
            until(lambda: post.faults.stats().pages_pulled == came)
            peer.sock.close()
            wait_for_event(post)
            assert isinstance(post.faults.failure, ConnectionBroken)
            time.sleep(0.02)
            post.faults.disconnect()
            peer = post.peer()
            assert post.faults.failure is None
            assert peer.request().page == start + came
            missing = post.faults.missing_pages()
            assert np.count_nonzero(missing) == post.faults.missing_count == post.n_pages - came
            peer.sock.close()
            wait_for_event(post)
            post.server.resync(missing)
            post.serve()
            post.push()
            post.finish()

    @pytest.mark.parametrize("seed", range(4))
    def test_a_connection_that_is_cut_again_and_again(self, seed: int) -> None:
        """By a relay, after any number of bytes; what is missing is agreed upon each time."""
        rng = np.random.default_rng(seed)
        with self.post(workload=("sequential", HOT)[seed % 2], vcpus=2) as post:
            post.arm()
            post.dest.resume()
            for _ in range(6):
                post.serve_cut_after(int(rng.integers(0, 400_000)))
                wait_for_event(post)
                assert isinstance(post.faults.failure, ConnectionBroken)
                post.faults.disconnect()
                post.server.stop()
                missing = post.faults.missing_pages()
                assert post.faults.missing_count == np.count_nonzero(missing)
                post.server.resync(missing)
            post.serve()
            post.push()
            post.finish()
            stats = post.faults.stats()
            assert stats.pages_pulled + stats.pages_pushed == post.n_pages

    def test_faults_are_collected_without_a_connection(self) -> None:
        with self.post(workload=HOT, vcpus=2) as post:
            post.arm()
            post.dest.resume()
            until(lambda: post.faults.stats().faults == 2)
            post.faults.disconnect()
            post.faults.disconnect()
            peer = post.peer()
            asked = {peer.request().page, peer.request().page}
            assert len(asked) == 2
            assert peer.quiet()
            time.sleep(0.05)
            post.serve()
            post.push()
            post.finish()

    @pytest.mark.parametrize("vcpus", [1, 2])
    def test_checked_frames_place_every_page(self, vcpus: int) -> None:
        with self.post(workload=HOT, vcpus=vcpus, checked=True) as post:
            post.arm()
            post.serve()
            post.dest.resume()
            until(lambda: post.faults.stats().pages_pulled > 300)
            post.push()
            post.finish()

    @pytest.mark.parametrize("piece", [1, 7, 1000, 5000])
    def test_a_checked_frame_in_pieces(self, piece: int) -> None:
        with self.post(workload="idle", checked=True) as post:
            post.arm()
            peer = post.peer()
            table = np.array([(4, 2), (9, 1)], EXTENT)
            head = encoder.encode_pages_head(table, checked=True)
            view = post.source.memory.view
            body = view[4 * PAGE_SIZE : 6 * PAGE_SIZE], view[9 * PAGE_SIZE : 10 * PAGE_SIZE]
            data = b"".join([head, *body, encoder.trailer(head, *body)])
            data += encoder.encode_zero(np.array([(20, 3)], EXTENT), checked=True)
            for at in range(0, len(data) - 1, piece):
                peer.sock.sendall(data[at : min(at + piece, len(data) - 1)])
            until(lambda: post.faults.stats().received_bytes == len(data) - 1)
            until(lambda: post.faults.stats().pages_pulled >= 3)  # counted after its bytes
            assert post.faults.stats().pages_pulled == 3  # the zero pages wait for their checksum
            peer.sock.sendall(data[-1:])
            until(lambda: post.faults.stats().pages_pulled == 6)
            assert np.flatnonzero(~post.faults.missing_pages()).tolist() == [4, 5, 9, 20, 21, 22]

    def test_no_wrong_bit_is_placed(self) -> None:
        """Whichever bit it is: the connection ends, and the page is still missing."""
        with self.post(workload="idle", checked=True) as post:
            post.arm()
            head = encoder.encode_pages_head(np.array([(7, 1)], EXTENT), checked=True)
            body = post.source.memory.view[7 * PAGE_SIZE : 8 * PAGE_SIZE]
            data = b"".join([head, body, encoder.trailer(head, body)])
            for at in [*range(24), 24, 2000, 24 + 4095, *range(24 + 4096, 24 + 4104)]:
                wrong = bytearray(data)
                wrong[at] ^= 1 << (at % 8)
                peer = post.peer()
                peer.sock.sendall(wrong)
                peer.sock.shutdown(socket.SHUT_WR)  # a wrong length waits for more
                wait_for_event(post)
                assert post.faults.failure is not None, at
                assert post.faults.missing_count == post.n_pages, at

    def test_a_checked_frame_is_short(self) -> None:
        with self.post(workload="idle", checked=True) as post:
            post.arm()
            peer = post.peer()
            peer.sock.sendall(encoder.encode_pages_head(np.array([(0, 33)], EXTENT), checked=True))
            wait_for_event(post)
            assert isinstance(post.faults.failure, RemoteProtocolError)

    ILLEGAL: ClassVar = {
        "unknown type": header.HEADER.pack(99, 0, 0, 0, 0),
        "flags": header.HEADER.pack(2, 1, 1, 0, 8 + PAGE_SIZE),
        "a barrier": encoder.encode_barrier(1),
        "a request": encoder.encode_request(1),
        "no extents": header.HEADER.pack(2, 0, 0, 0, PAGE_SIZE),
        "too many extents": header.HEADER.pack(3, 0, 1001, 0, 8008),
        "table cut short": header.HEADER.pack(3, 0, 2, 0, 8),
        "half a page": header.HEADER.pack(2, 0, 1, 0, 8 + 100),
        "a negative length": header.HEADER.pack(2, 0, 1, 0, 2**64 - PAGE_SIZE + 8),
        "payload in a zero frame": header.HEADER.pack(3, 0, 1, 0, 8 + PAGE_SIZE),
        "payload too long": header.HEADER.pack(2, 0, 1, 0, 8 + 4097 * PAGE_SIZE),
        "outside memory": encoder.encode_zero(np.array([(2047, 2)], EXTENT)),
        "far outside memory": encoder.encode_zero(np.array([(2**32 - 1, 2**32 - 1)], EXTENT)),
        "empty extent": encoder.encode_zero(np.array([(3, 0), (4, 1)], EXTENT)),
        "a probe of another attempt": encoder.encode_probe(1, 7),
        "a probe with a body": header.HEADER.pack(9, 0, 7, 0, 8),
        "an answer to nothing": encoder.encode_answer(0, 4711),
        "fewer pages than announced": header.HEADER.pack(2, 0, 1, 0, 8 + 2 * PAGE_SIZE)
        + np.array([(0, 1)], EXTENT).tobytes(),
    }

    def test_what_is_illegal_ends_the_connection(self) -> None:
        with self.post(workload=HOT) as post:
            post.arm()
            post.dest.resume()
            for name, data in self.ILLEGAL.items():
                peer = post.peer()
                peer.sock.sendall(data)
                wait_for_event(post)
                assert isinstance(post.faults.failure, RemoteProtocolError), name
                assert post.faults.missing_count == post.n_pages, name
            post.serve()
            post.push()
            post.finish()

    def test_pages_before_the_guest_was_handed_over_are_illegal(self) -> None:
        with self.post(workload="idle") as post:
            peer = post.peer()
            peer.sock.sendall(encoder.encode_zero(np.array([(3, 1)], EXTENT)))
            until(lambda: post.faults.failure is not None)
            assert isinstance(post.faults.failure, RemoteProtocolError)

    @pytest.mark.parametrize("checked", [False, True])
    def test_probes_are_answered_in_both_directions(self, checked: bool) -> None:
        with self.post(workload="idle", checked=checked) as post:
            post.serve()
            until(lambda: post.faults.answered and post.server.answered)
            assert post.faults.failure is None
            assert post.server.failure is None

    def test_what_comes_after_it_has_settled_is_not_placed(self) -> None:
        with self.post(workload="idle") as post:
            post.arm()
            peer = post.peer()
            post.answer(peer, 1)
            until(lambda: post.faults.stats().pages_pulled == 1)
            post.faults.settle()
            before = post.faults.stats().received_bytes
            post.answer(peer, 5, 6)
            until(lambda: post.faults.stats().received_bytes >= before + 2 * PAGE_SIZE)
            peer.sock.sendall(encoder.encode_probe(0, 9))
            until(lambda: post.faults.stats().received_bytes > before + 2 * PAGE_SIZE + 24)
            assert post.faults.missing_count == post.n_pages - 1
            assert post.faults.failure is None

    def test_frames_of_any_shape_in_pieces_of_any_size(self) -> None:
        """What the codec writes, the compiled end reads."""
        rng = np.random.default_rng(11)
        with self.post(workload="idle", memory="32MiB") as post:
            post.arm()
            peer = post.peer()
            order = rng.permutation(post.n_pages)
            stream = b""
            for chunk in np.split(order, [1, 2, 50, 1000, 1001, 4000, 4001, 7000]):
                pages = np.sort(chunk)
                for part in np.array_split(pages, -(-len(pages) // 900)):
                    stream += encode(post.source.memory.view, part)
            at = 0
            while at < len(stream):
                n = int(rng.choice([1, 7, 16, 300, 4096, 70_000, 400_000]))
                peer.sock.sendall(stream[at : at + n])
                at += n
            until(lambda: post.faults.missing_count == 0)
            assert post.faults.stats().duplicates == 0
            assert post.faults.stats().received_bytes == len(stream)
            post.dest.resume()
            post.finish()

    # -- pre-paging ---------------------------------------------------------------------------

    def faults_of(self, workload: str, prepage: int, vcpus: int = 1) -> tuple[int, int]:
        """(faults, pages pulled) of a guest that nothing is pushed to."""
        with self.post(
            workload=workload,
            prepage=Prepage.from_wire(prepage),
            vcpus=vcpus,
            memory="32MiB",
            steps=0,
        ) as post:
            post.arm()
            post.serve()
            post.dest.resume()
            goal = post.n_pages // vcpus if "sequential" in workload else 2000
            until(lambda: all(n >= goal for n in post.dest.steps()))
            post.dest.pause()
            post.push()
            until(lambda: post.faults.missing_count == 0)
            stats = post.faults.stats()
            post.dest.resume()
            post.finish()
            assert stats.duplicates == 0
            return stats.faults, stats.pages_pulled

    @pytest.mark.parametrize("vcpus", [1, 2])
    def test_a_sequential_reader_faults_ten_times_less(self, vcpus: int) -> None:
        without, _ = self.faults_of(READER, 0, vcpus)
        adaptive, pulled = self.faults_of(READER, -1, vcpus)
        assert (without, pulled) == (8192, 8192)
        assert adaptive * 10 <= without

    def test_random_faults_are_not_pre_paged(self) -> None:
        faults, pulled = self.faults_of("uniform:scatter=true,write-share=0%", -1)
        assert faults > 1500
        assert pulled < 1.05 * faults

    def test_a_fixed_window_asks_for_that_many_neighbours(self) -> None:
        with self.post(
            workload="sequential", prepage=Prepage("6"), memory="64KiB", cache=0, steps=0
        ) as post:
            post.arm()
            peer = post.peer()
            post.dest.resume()
            request = peer.request()
            assert request.window == 6
            post.answer(peer, *range(request.page, request.page + 7))
            assert peer.request().page == request.page + 7

    def test_a_window_ends_where_the_vcpus_pages_end(self) -> None:
        with self.post(
            workload="sequential", prepage=Prepage("500"), memory="1MiB", vcpus=2
        ) as post:
            post.arm()
            peer = post.peer()
            post.dest.resume()
            for request in (peer.request(), peer.request()):
                assert request.page + request.window + 1 in (128, 256)

    # -- records ------------------------------------------------------------------------------

    def test_every_fault_leaves_a_record(self) -> None:
        before = time.monotonic_ns()
        with self.post(workload=HOT, vcpus=2, steps=0) as post:
            post.arm()
            peer = post.peer()
            post.dest.resume()
            asked = [peer.request().page, peer.request().page]
            time.sleep(0.02)
            post.push_in(asked[0])
            post.answer(peer, asked[1])
            peer.sock.close()
            wait_for_event(post)
            post.serve()
            post.push()
            post.finish()
            records = post.faults.take_faults()
            assert len(post.faults.take_faults()) == 0
            assert len(records) == post.faults.stats().faults
            assert post.faults.stats().untraced == 0
            t_ns, latency_ns, page, vcpu = records.T
            assert (t_ns > before).all()
            assert (t_ns + latency_ns < time.monotonic_ns()).all()
            assert sorted(page.tolist()) == sorted(set(page.tolist()))
            np.testing.assert_array_equal(vcpu, page >= post.n_pages // 2)
            first = dict(zip(page.tolist(), latency_ns.tolist(), strict=True))
            assert all(first[page] > 20_000_000 for page in asked)

    # -- the end ------------------------------------------------------------------------------

    @pytest.mark.parametrize("connected", [True, False])
    def test_a_guest_whose_pages_never_come(self, connected: bool) -> None:
        with self.post(workload=HOT, vcpus=2) as post:
            post.arm()
            if connected:
                post.peer()
            post.dest.resume()
            until(lambda: post.faults.stats().faults == 2)
            before = post.dest.steps()
            start = time.monotonic()
            assert post.faults.close() == post.n_pages
            assert time.monotonic() - start < 2
            assert post.faults.close() == post.n_pages
            assert post.dest.state == "stopped"
            if self.mechanism.name == "software":
                assert post.dest.steps() == before
            post.faults.disconnect()
            with pytest.raises(LocalProtocolError):
                post.peer()
            with pytest.raises(LocalProtocolError):
                post.push_in(1)

    def test_nothing_is_left_behind(self) -> None:
        def inventory() -> tuple[set[str], int]:
            names = {thread.name for thread in threading.enumerate()}
            return names, len(os.listdir("/proc/self/fd"))

        with self.post(workload=HOT):
            pass
        before = inventory()
        for phase in range(4):
            with self.post(workload=HOT, vcpus=2) as post:
                if phase > 0:
                    post.arm()
                if phase > 1:
                    post.serve()
                    post.dest.resume()
                    until(lambda: post.faults.stats().faults > 5)
                if phase > 2:
                    post.push()
                    post.finish()
        assert inventory() == before

    def test_calls_out_of_order_are_refused(self) -> None:
        with self.post(workload="idle") as post:
            with pytest.raises(LocalProtocolError):
                post.faults.disarm()
            with pytest.raises(ValueError, match="bool"):
                post.faults.arm(np.zeros(3, np.bool_))
            post.arm()
            with pytest.raises(LocalProtocolError, match="armed"):
                post.faults.arm(np.zeros(post.n_pages, np.bool_))
            with pytest.raises(LocalProtocolError, match="still missing"):
                post.faults.disarm()
            here, there = tcp_pair()
            with here, there:
                post.faults.connect(there)
                post.faults.disconnect()
