from __future__ import annotations

from pageferry.common.strategy import StopAndCopy
from tests.support.strategy_contract import StrategyContract


class TestStopAndCopy(StrategyContract):
    name = "stop-and-copy"

    def test_it_stops_at_once(self) -> None:
        strategy = self.make()
        assert isinstance(strategy.begin(), StopAndCopy)
        assert strategy.path is None
