"""Promises are kept: a region that said "you have all my entries up to this reading" accepts none at or before it.

It may have forgotten what it said only if its disk is lost, or is an older one: then it must find that out by itself,
and what it does meanwhile is looked at by `alarms`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from replication.codec import Frame, Have
from replication.gossip import Session
from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedNode


class Promises(Check):
    """Remembers the highest reading up to which every region has promised everything."""

    def __init__(self) -> None:
        self._promised: dict[str, int] = {}

    def sends(self, node: "SimulatedNode", session: Session, frame: Frame) -> None:
        if not isinstance(frame, Have) or node.name not in frame.promises:
            return
        promise = frame.promises[node.name]
        if promise > self._promised.get(node.name, -1):
            self._promised[node.name] = promise
            self._must_be_told(node, promise, frame.clock)

    def applied(self, node: "SimulatedNode", fact: Fact) -> None:
        assert node.region is not None
        promised = self._promised.get(node.name, -1)
        if fact.entry.replica == node.region.replica and fact.entry.hlc <= promised:
            raise Broken(f"{node.name} accepts {fact.dot} at {fact.entry.hlc}, and has promised that up to {promised}"
                         " nothing more would come")  # fmt: skip

    def disk_replaced(self, node: "SimulatedNode", before: dict[str, int], after: dict[str, int]) -> None:
        self._promised.pop(node.name, None)

    def _must_be_told(self, node: "SimulatedNode", promise: int, clock: Mapping[str, int]) -> None:
        """Entries that this process has accepted, and that the promise does not count."""
        assert node.region is not None
        replica = node.region.replica
        for seq in range(clock.get(replica, 0) + 1, node.region.clock.get(replica, 0) + 1):
            fact = node.facts.by_dot[replica, seq]
            if fact.entry.hlc <= promise:
                raise Broken(f"{node.name} promises all up to {promise}, and does not count {fact.dot}")
