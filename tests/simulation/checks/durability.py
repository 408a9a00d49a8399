"""What is acknowledged, or told to anybody, is on disk, is there after every crash, and in the end everywhere.

Told is also what a balance or a refusal says of a tenant: a crash must not take back what it rests on.

Only one thing takes an entry away: every disk that held it is lost. What happened to disks is known here; whatever else
is missing is a broken promise.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ledger.ids import TenantId
from node.region import Accepted
from replication.codec import Entries, Frame, Have, Hello
from replication.entry import open_sealed
from replication.gossip import Session
from tests.simulation.disk import SimulatedDisk
from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import Answer, SimulatedNode


def _rests_on(fact: Fact, dots: set[tuple[str, int]]) -> bool:
    """Whether an entry is one of these, or had seen one of them."""
    return any(fact.clock.get(replica, 0) >= seq for replica, seq in dots)


class Durability(Check):
    """Keeps every dot that was acknowledged, and every one that went with the last disk that had it."""

    def __init__(self) -> None:
        self.acknowledged: dict[tuple[str, int], str] = {}
        self.destroyed: set[tuple[str, int]] = set()
        self._damaged: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
        self._cluster: Cluster

    def begun(self, cluster: "Cluster") -> None:
        self._cluster = cluster

    def started(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        clock, entries = node.region.clock, node.disk.entries
        if clock == entries:
            return
        damaged = self._damaged[node.name]
        for replica in clock.keys() | entries.keys():
            first = clock.get(replica, 0) + 1
            if first > entries.get(replica, 0) + 1:
                raise Broken(f"{node.name} starts with {clock}, on its disk are {entries}")
            if first <= entries.get(replica, 0) and not _rests_on(node.facts.by_dot[replica, first], damaged):
                raise Broken(f"{node.name} starts without {replica}:{first}, which is on its disk, and whole")
        # What stands behind what was damaged is still there, aside, until that has come back: if it ever does.
        others = self._disks_but_of(node)
        for replica, count in entries.items():
            for seq in range(clock.get(replica, 0) + 1, count + 1):
                if not any(disk.holds(replica, seq) for disk in others):
                    self.destroyed.add((replica, seq))
        node.count("start without damaged entries")

    def answers(self, node: "SimulatedNode", answer: "Answer") -> None:
        if isinstance(answer, Accepted):
            dot = answer.filed.entry.replica, answer.filed.entry.seq
            if not node.disk.holds(*dot):
                raise Broken(f"{node.name} acknowledges {dot}, which is not on its disk")
            self.acknowledged[dot] = node.name

    def tells(self, node: "SimulatedNode", tenant: TenantId, clock: dict[str, int]) -> None:
        for fact in node.facts.by_tenant[tenant]:
            replica, seq = fact.dot
            if seq <= clock.get(replica, 0) and not node.disk.holds(replica, seq):
                raise Broken(
                    f"{node.name} tells a client of {tenant} as {replica}:{seq} has it, which is not on its disk"
                )

    def sends(self, node: "SimulatedNode", session: Session, frame: Frame) -> None:
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
        others = self._disks_but_of(node)
        for replica, count in before.items():
            for seq in range(after.get(replica, 0) + 1, count + 1):
                if not any(disk.holds(replica, seq) for disk in others):
                    self.destroyed.add((replica, seq))
                    node.count("entry destroyed with its last disk")

    def damaged(self, node: "SimulatedNode", dots: Sequence[tuple[str, int]]) -> None:
        self._damaged[node.name].update(dots)

    def _disks_but_of(self, node: "SimulatedNode") -> list[SimulatedDisk]:
        return [other.disk for other in self._cluster.nodes.values() if other is not node]

    def agreed(self, cluster: "Cluster") -> None:
        for dot in self.acknowledged.keys() - self.destroyed:
            for node in cluster.nodes.values():
                if not node.disk.holds(*dot):
                    raise Broken(f"{dot} was acknowledged by {self.acknowledged[dot]} and is not at {node.name}")
