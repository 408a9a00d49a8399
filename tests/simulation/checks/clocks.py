"""Clocks order, and wait: what a region accepts reads later than all it knows; what is far ahead is not applied yet."""

from typing import TYPE_CHECKING

from replication.clock import ms_of
from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedNode


class Clocks(Check):
    """Looks at the reading of every entry when it is applied."""

    def __init__(self) -> None:
        self._latest: dict[str, int] = {}

    def started(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        held = node.facts.held_by(node.region.clock)
        self._latest[node.name] = max((fact.entry.hlc for fact in held), default=-1)

    def applied(self, node: "SimulatedNode", fact: Fact) -> None:
        assert node.region is not None
        hlc = fact.entry.hlc
        if fact.entry.replica == node.region.replica:
            if hlc <= self._latest[node.name]:
                raise Broken(f"{node.name} accepts {fact.dot} at a reading that is not later than all it knows")
        elif ms_of(hlc) > node.now() + node.settings.max_clock_drift_ms:
            raise Broken(f"{node.name} applies {fact.dot}, {ms_of(hlc) - node.now()} ms ahead of its clock")
        self._latest[node.name] = max(hlc, self._latest[node.name])
