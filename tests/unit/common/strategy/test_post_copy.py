from __future__ import annotations

import pytest

from pageferry.common.strategy import SwitchToPostCopy
from tests.support.strategy_contract import StrategyContract


class TestPostCopy(StrategyContract):
    name = "post-copy"

    def test_it_switches_at_once_and_pushes(self) -> None:
        decision = self.make().begin()
        assert isinstance(decision, SwitchToPostCopy)
        assert decision.push


class TestLazyCopy(StrategyContract):
    name = "lazy-copy"

    def test_it_switches_at_once_and_pushes_nothing(self) -> None:
        decision = self.make().begin()
        assert isinstance(decision, SwitchToPostCopy)
        assert not decision.push


@pytest.mark.parametrize("name", ["post-copy", "lazy-copy"])
def test_post_copy_has_no_path(name: str) -> None:
    strategy = (TestPostCopy if name == "post-copy" else TestLazyCopy)().make()
    strategy.begin()
    assert strategy.path is None
