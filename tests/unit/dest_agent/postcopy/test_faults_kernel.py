"""The contract, by userfaultfd."""

import os

import numpy as np
import pytest

from pageferry.common.config.prepage import Prepage
from pageferry.common.units import PAGE_SIZE
from pageferry.common.userfault import UserfaultUnavailable
from pageferry.dest_agent.postcopy.mechanism import Mechanism, choose_mechanism, probe_userfault
from tests.support.child_process import drop_privileges, in_child
from tests.support.faults_contract import HOT, FaultContract
from tests.support.postcopy_pair import until

try:
    UNAVAILABLE = ""
    probe_userfault()
except UserfaultUnavailable as error:
    UNAVAILABLE = str(error)


@pytest.mark.skipif(bool(UNAVAILABLE), reason=UNAVAILABLE or "available")
class TestKernel(FaultContract):
    mechanism = Mechanism("kernel", "test")

    def test_python_may_touch_a_missing_page(self) -> None:
        """It holds the interpreter lock while it waits in the kernel: the handler needs it not."""

        def touch() -> None:
            with self.post(workload="idle") as post:
                post.arm()
                post.serve()
                post.dest.resume()
                memory, origin = post.dest.memory, post.source.memory
                for at in range(0, memory.size, 300 * PAGE_SIZE + 1):
                    assert memory.view[at] == origin.view[at]
                assert bytes(memory.view[1_000_000:1_100_000]) == bytes(
                    origin.view[1_000_000:1_100_000]
                )
                assert memory.words[512 * 100 : 512 * 200].sum() == (
                    origin.words[512 * 100 : 512 * 200].sum()
                )
                assert post.faults.stats().faults > 10
                post.push()
                post.finish()

        with self.post(workload="idle"):
            pass  # compiled before the fork
        in_child(touch)

    @pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
    def test_it_needs_no_privilege(self) -> None:
        def nobody() -> None:
            drop_privileges()
            mechanism = choose_mechanism("auto")
            assert mechanism == Mechanism("kernel", "system call, user mode only")
            self.test_faults_alone_bring_what_is_needed()

        with self.post(workload="idle", prepage=Prepage("0")):
            pass
        in_child(nobody)

    def test_a_first_touch_of_a_page_that_was_never_written(self) -> None:
        with self.post(workload=f"{HOT},zero-share=100%", steps=0) as post:
            nothing = np.zeros(post.n_pages, np.bool_)
            post.arm(nothing, written=nothing)
            post.dest.resume()
            until(lambda: post.faults.stats().zero_fills > 500)
            assert post.faults.stats().faults == 0
            assert post.faults.stats().zero_fills <= post.n_pages
            post.finish()
