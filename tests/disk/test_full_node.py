"""A node with no room left: what its clients, its peers and its operator see, and what is there afterwards."""

import asyncio
import resource
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Final

import pytest

from creditmesh import AsyncClient, CreditmeshError
from creditmesh.testing import LocalCluster
from creditmesh.testing.cluster import ONCE

_FAR_FUTURE_MS: Final = 4_000_000_000_000
_MIB: Final = 1 << 20
_SETTINGS: Final = """
[timing]
anti_entropy_interval_ms = 100
settle_after_ms = 200
checkpoint_after_ms = 300

[store]
map_bytes = 1_048_576
max_map_bytes = 1_099_511_627_776
min_free_bytes = 0
"""
_WRITERS: Final = 16


@pytest.fixture
async def cluster(creditmesh_cluster: Callable[..., LocalCluster]) -> AsyncIterator[LocalCluster]:
    """Two regions that are not running yet."""
    async with creditmesh_cluster("eu", "us", settings=_SETTINGS) as cluster:
        yield cluster


def set_for(cluster: LocalCluster, region: str, **store: int) -> None:
    """Change what the configuration of one region says of its store; the next start reads it."""
    path = cluster.root / f"{region}.toml"
    lines = path.read_text().splitlines()
    for name, value in store.items():
        lines = [f"{name} = {value}" if line.startswith(f"{name} =") else line for line in lines]
    path.write_text("\n".join(lines))


async def write_until_refused(client: AsyncClient, tenant: str) -> set[str]:
    """Debit 1, by several writers, until nobody is heard any more; the keys of what was acknowledged."""
    acknowledged: set[str] = set()

    async def write(writer: int) -> None:
        for number in count(1):
            key = f"{tenant}-{writer}-{number}"
            try:
                await client.debit(tenant, amount=1, key=key)
            except CreditmeshError:
                return
            acknowledged.add(key)

    await asyncio.gather(*map(write, range(_WRITERS)))
    return acknowledged


async def keys_in(client: AsyncClient) -> list[str]:
    """The keys in a region's log."""
    return [entry.key async for entry in client.export() if entry.key]


async def ended(cluster: LocalCluster, region: str) -> int:
    """The exit code of a node that ends by itself."""
    process = cluster._processes[region]
    code = await process.wait()
    await cluster.kill(region)
    return code


async def check_everything_acknowledged(cluster: LocalCluster, acknowledged: set[str]) -> None:
    """It is there, once, in both regions, and the books say what the journal says."""
    await cluster.converged()
    for region in cluster.regions:
        keys = await keys_in(cluster.client(region))
        assert acknowledged <= set(keys)
        assert len(keys) == len(set(keys))
        audit = await cluster.client(region).audit()
        assert audit.ok, audit.findings
        assert audit.books_equal


@pytest.mark.parametrize("limit", ["the disk's", "the store's"])
async def test_a_node_that_meets_a_full_disk_stops_and_says_why_and_has_lost_nothing_when_there_is_room(
    cluster: LocalCluster, limit: str
) -> None:
    if limit == "the store's":
        set_for(cluster, "us", max_map_bytes=2 * _MIB)
    await cluster.start()
    us = cluster.client("us")
    await us.grant("acme", amount=10**9, expires_at=_FAR_FUTURE_MS)
    if limit == "the disk's":
        pid = int((cluster.root / "us" / "LOCK").read_text())
        length = (cluster.root / "us" / "data.mdb").stat().st_size + _MIB // 2
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (length, length))
    async with AsyncClient(cluster.urls["us"], retry=ONCE) as client:
        acknowledged = await write_until_refused(client, "acme")
    assert len(acknowledged) > 100
    assert await ended(cluster, "us") == 1
    said = cluster.log_of("us")
    assert ("make room on that disk" if limit == "the disk's" else "limit of 2,097,152 bytes; raise the limit") in said

    set_for(cluster, "us", max_map_bytes=64 * _MIB)
    await cluster.start("us")
    await us.debit("acme", amount=1, key="afterwards")
    await check_everything_acknowledged(cluster, acknowledged | {"afterwards"})


async def test_with_little_room_left_clients_are_refused_while_gossip_and_compensations_go_on(
    cluster: LocalCluster,
) -> None:
    set_for(cluster, "us", max_map_bytes=8 * _MIB, min_free_bytes=7 * _MIB)
    await cluster.start()
    eu, us = cluster.client("eu"), cluster.client("us")
    await eu.grant("acme", amount=100, expires_at=_FAR_FUTURE_MS)
    await us.grant("busy", amount=10**9, expires_at=_FAR_FUTURE_MS)
    await cluster.converged()

    await cluster.cut("us")
    await eu.debit("acme", amount=80, key="first")
    await us.debit("acme", amount=80, key="second")
    async with AsyncClient(cluster.urls["us"], retry=ONCE) as client:
        acknowledged = await write_until_refused(client, "busy")
        ready = await client.ready()
        assert not ready.ready
        assert ready.reasons == [
            f"less than 7,340,032 bytes are free for {cluster.root / 'us'}; make room, or lower store.min_free_bytes"
        ]
        with pytest.raises(CreditmeshError, match="bytes are free"):
            await client.debit("busy", amount=1)
        assert (await client.balance("busy")).used >= len(acknowledged)

    await eu.debit("busy", amount=5, key="meanwhile")
    await cluster.heal("us")
    await cluster.converged()
    (conflict,) = (await us.conflicts()).conflicts
    assert (conflict.kind, conflict.loser.replica.partition("/")[0]) == ("overspend", "us")
    assert conflict.compensations, "posted by the region that has no room for its clients"
    assert not (await us.ready()).ready

    await cluster.stop("us")
    set_for(cluster, "us", max_map_bytes=64 * _MIB)
    await cluster.start("us")
    await us.debit("busy", amount=1, key="afterwards")
    await check_everything_acknowledged(cluster, acknowledged | {"first", "second", "meanwhile", "afterwards"})
