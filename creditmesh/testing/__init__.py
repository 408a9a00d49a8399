"""For tests of what uses creditmesh: real nodes, real disks, real sockets, real faults.

    async with LocalCluster(["us-east", "eu-west"]) as cluster:
        await cluster.start()
        await cluster.cut("us-east")
        ...
        await cluster.heal("us-east")
        await cluster.converged()

With pytest, the fixture ``creditmesh_cluster`` makes them. What clients were told is recorded by `creditmesh.history`,
and held against what the regions have by `creditmesh.checker`.
"""

from creditmesh.testing.cluster import ClusterFailure, LocalCluster
from creditmesh.testing.ports import free_ports
from creditmesh.testing.proxy import Flow, Link

__all__ = ["ClusterFailure", "Flow", "Link", "LocalCluster", "free_ports"]
