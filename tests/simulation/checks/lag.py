"""Lag goes away: when everything has been exchanged, no region says that it is behind another, or another behind it."""

from typing import TYPE_CHECKING

from replication.clock import lacking_count
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class LagGoesAway(Check):
    """In the end: what every region tells its clients and operators of its peers."""

    def rested(self, cluster: "Cluster") -> None:
        for node in cluster.nodes.values():
            assert node.region is not None
            assert node.links is not None
            for peer in node.links.peers.values():
                here, there = lacking_count(node.region.clock, peer.has), lacking_count(peer.has, node.region.clock)
                if here or there:
                    raise Broken(f"at rest {node.name} misses {here} entries of {peer.region}, and that one {there}")
