"""Real clusters for the tests: processes, sockets, disks. Intervals are short, so that conditions come true soon."""

from collections.abc import AsyncIterator, Callable

import pytest

from creditmesh.testing import LocalCluster

SETTINGS = """
[timing]
anti_entropy_interval_ms = 100
settle_after_ms = 200
checkpoint_after_ms = 300

[store]
min_free_bytes = 0
"""


@pytest.fixture
async def cluster(creditmesh_cluster: Callable[..., LocalCluster]) -> AsyncIterator[LocalCluster]:
    """Three regions, running."""
    async with creditmesh_cluster("us-east", "eu-west", "ap-south", settings=SETTINGS) as running:
        await running.start()
        yield running
