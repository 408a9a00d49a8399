"""Logs have no gaps, and a dot names one entry for ever, on every node and through every crash."""

from collections import defaultdict
from typing import TYPE_CHECKING

from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import SimulatedNode


class GaplessChains(Check):
    """Every boot writes a log of its own, from 1 on; every node applies it entry by entry.

    That a dot has one hash, and that every entry names the hash before it, is checked where facts are learnt.
    """

    def __init__(self) -> None:
        self._applied: dict[str, dict[str, int]] = {}
        self._writers: defaultdict[str, set[str]] = defaultdict(set)

    def started(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        self._applied[node.name] = dict(node.region.clock)
        if node.region.replica in node.region.clock:
            raise Broken(f"{node.name} starts with entries of the log that it is to open, {node.region.replica}")

    def applied(self, node: "SimulatedNode", fact: Fact) -> None:
        replica, seq = fact.dot
        applied = self._applied[node.name]
        if seq != applied.get(replica, 0) + 1:
            raise Broken(f"{node.name} applies {replica}:{seq} behind {applied.get(replica, 0)}")
        applied[replica] = seq

    def rested(self, cluster: "Cluster") -> None:
        for node in cluster.nodes.values():
            assert node.region is not None
            if node.region.clock != node.disk.entries:
                raise Broken(f"{node.name} counts {node.region.clock}, on its disk are {node.disk.entries}")
