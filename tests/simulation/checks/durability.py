"""What is acknowledged, or told to anybody, is on disk, is there after every crash, and in the end everywhere.

Only one thing takes an entry away: every disk that held it is lost. What happened to disks is known here; whatever else
is missing is a broken promise.
"""

from typing import TYPE_CHECKING

from node.region import Accepted
from replication.codec import Entries, Frame, Have, Hello
from replication.entry import open_sealed
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import Answer, SimulatedNode


class Durability(Check):
    """Keeps every dot that was acknowledged, and every one that went with the last disk that had it."""

    def __init__(self) -> None:
        self.acknowledged: dict[tuple[str, int], str] = {}
        self.destroyed: set[tuple[str, int]] = set()
        self._cluster: Cluster

    def begun(self, cluster: "Cluster") -> None:
        self._cluster = cluster

    def started(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        if node.region.clock != node.disk.entries:
            raise Broken(f"{node.name} starts with {node.region.clock}, on its disk are {node.disk.entries}")

    def answers(self, node: "SimulatedNode", answer: "Answer") -> None:
        if isinstance(answer, Accepted):
            dot = answer.filed.entry.replica, answer.filed.entry.seq
            if not node.disk.holds(*dot):
                raise Broken(f"{node.name} acknowledges {dot}, which is not on its disk")
            self.acknowledged[dot] = node.name

    def sends(self, node: "SimulatedNode", frame: Frame) -> None:
        told: dict[str, int] = {}
        if isinstance(frame, Entries):
            for sealed in frame.page:
                entry, _ = open_sealed(sealed)
                told[entry.replica] = max(entry.seq, told.get(entry.replica, 0))
        elif isinstance(frame, Hello | Have):
            told = frame.clock
        for replica, seq in told.items():
            if not node.disk.holds(replica, seq):
                raise Broken(f"{node.name} tells a peer of {replica}:{seq}, which is not on its disk")

    def disk_replaced(self, node: "SimulatedNode", before: dict[str, int], after: dict[str, int]) -> None:
        others = [other.disk for other in self._cluster.nodes.values() if other is not node]
        for replica, count in before.items():
            for seq in range(after.get(replica, 0) + 1, count + 1):
                if not any(disk.holds(replica, seq) for disk in others):
                    self.destroyed.add((replica, seq))
                    node.count("entry destroyed with its last disk")

    def rested(self, cluster: "Cluster") -> None:
        for dot in self.acknowledged.keys() - self.destroyed:
            for node in cluster.nodes.values():
                if not node.disk.holds(*dot):
                    raise Broken(f"{dot} was acknowledged by {self.acknowledged[dot]} and is not at {node.name}")
