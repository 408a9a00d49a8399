"""Real clusters for the tests: processes, sockets, disks. Intervals are short, so that conditions come true soon."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from creditmesh.testing import LocalCluster

REGIONS = ("us-east", "eu-west", "ap-south")

SETTINGS = """
[timing]
anti_entropy_interval_ms = 100
settle_after_ms = 200
checkpoint_after_ms = 300

[store]
min_free_bytes = 0
"""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    """Three regions, running."""
    async with LocalCluster(REGIONS, tmp_path, SETTINGS) as running:
        await running.start()
        yield running
