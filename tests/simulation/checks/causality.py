"""Causes first: a node applies an entry only when it has applied all that the entry had seen."""

from typing import TYPE_CHECKING

from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedNode


class CausalClosure(Check):
    """What a node has applied is closed under "happened before", and canonical order never puts a cause second."""

    def __init__(self) -> None:
        self._applied: dict[str, dict[str, int]] = {}

    def started(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        self._applied[node.name] = dict(node.region.clock)
        for fact in node.facts.held_by(node.region.clock):
            self._must_be_closed(node, fact, self._applied[node.name])

    def applied(self, node: "SimulatedNode", fact: Fact) -> None:
        applied = self._applied[node.name]
        applied[fact.entry.replica] = fact.entry.seq
        self._must_be_closed(node, fact, applied)
        for replica, count in fact.entry.delta.items():
            cause = node.facts.by_dot[replica, count]
            if cause.entry.hlc >= fact.entry.hlc:
                raise Broken(f"{fact.dot} has seen {cause.dot}, and its clock reads no more than that")

    def _must_be_closed(self, node: "SimulatedNode", fact: Fact, applied: dict[str, int]) -> None:
        missing = {replica: count for replica, count in fact.clock.items() if count > applied.get(replica, 0)}
        if missing:
            raise Broken(f"{node.name} has {fact.dot} but not what it had seen: {missing}")
