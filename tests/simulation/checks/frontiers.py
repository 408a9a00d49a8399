"""The frontier goes on: once nothing goes wrong any more, everything from before becomes stable, in every region.

A frontier that stands still loses nothing, and yet no book is checkpointed any more and no expired lot closed: memory,
and the time that a start takes, grow without end.
"""

from typing import TYPE_CHECKING

from replication.clock import ms_of
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class FrontierGoesOn(Check):
    """In the end: the frontier of every region has passed the time at which all was healed, by the slowest clock."""

    def __init__(self) -> None:
        self._healed_at = 0

    def healed(self, cluster: "Cluster") -> None:
        self._healed_at = min(node.now() for node in cluster.nodes.values())

    def rested(self, cluster: "Cluster") -> None:
        for node in cluster.nodes.values():
            assert node.links is not None
            frontier = node.links.frontier
            if ms_of(frontier.reached) < self._healed_at:
                behind = (self._healed_at - ms_of(frontier.reached)) // cluster.scenario.beat
                raise Broken(
                    f"the frontier of {node.name} stands {behind} beats before the time at which all was healed;"
                    f" {frontier.holders} hold it back"
                )
