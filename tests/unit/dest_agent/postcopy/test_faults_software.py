"""The contract, by the map of present pages."""

from pageferry.dest_agent.postcopy.mechanism import Mechanism
from tests.support.faults_contract import FaultContract


class TestSoftware(FaultContract):
    mechanism = Mechanism("software", "test")
