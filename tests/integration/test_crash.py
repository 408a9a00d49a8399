"""A node is killed under load: what it acknowledged is there afterwards, once; nothing else is half-done."""

import asyncio
from collections import Counter

from creditmesh import AsyncClient, CreditmeshError
from creditmesh.testing import LocalCluster

FAR_FUTURE_MS = 4_000_000_000_000
WRITERS = 8
KILLS = 3


async def write_for_ever(client: AsyncClient, name: str, acknowledged: set[str], wanted: asyncio.Event) -> None:
    """Debit 1, again and again, each under a key of its own; note what was acknowledged."""
    number = 0
    while not wanted.is_set():
        number += 1
        key = f"{name}-{number}"
        try:
            await client.debit("acme", amount=1, key=key)
        except CreditmeshError:
            continue
        acknowledged.add(key)


async def exported_keys(client: AsyncClient) -> Counter[str]:
    """How often each key stands in a region's log with an effect."""
    return Counter([entry.key async for entry in client.export() if entry.key and entry.outcome == "applied"])


async def test_no_acknowledged_operation_is_lost_or_doubled_by_kill_and_restart(cluster: LocalCluster) -> None:
    us = cluster.client("us-east")
    await us.grant("acme", amount=10**9, expires_at=FAR_FUTURE_MS, key="grant")
    acknowledged: set[str] = {"grant"}
    enough = asyncio.Event()
    writers = [
        asyncio.create_task(write_for_ever(us, f"writer-{number}", acknowledged, enough)) for number in range(WRITERS)
    ]
    for _ in range(KILLS):
        before = len(acknowledged)
        while len(acknowledged) < before + 200:
            await asyncio.sleep(0.01)
        await cluster.kill("us-east")
        await cluster.start("us-east")
    enough.set()
    await asyncio.gather(*writers)
    await cluster.converged()

    for region in cluster.regions:
        keys = await exported_keys(cluster.client(region))
        assert acknowledged <= keys.keys()
        assert max(keys.values()) == 1
        audit = await cluster.client(region).audit()
        assert audit.ok, audit.findings
        assert audit.books_equal
        balance = await cluster.client(region).balance("acme")
        assert balance.used == len(keys) - 1
    logs = {replica.partition("/")[0]: 0 for replica in (await us.cluster()).clock}
    for replica in (await us.cluster()).clock:
        logs[replica.partition("/")[0]] += 1
    assert logs["us-east"] == KILLS + 1, "every boot opens a log of its own"


async def test_a_clean_stop_loses_nothing_and_exits_with_zero(cluster: LocalCluster) -> None:
    eu = cluster.client("eu-west")
    await eu.grant("acme", amount=100, expires_at=FAR_FUTURE_MS)
    held = await eu.reserve("acme", amount=30, lease_ms=3_600_000)
    assert await cluster.stop("eu-west") == 0
    await cluster.start("eu-west")
    reservation = await eu.get_reservation("acme", held.reply.reservation)
    assert (reservation.state, reservation.held) == ("open", 30)


async def test_a_lease_that_ends_while_its_node_is_down_lapses_after_the_restart(cluster: LocalCluster) -> None:
    eu = cluster.client("eu-west")
    await eu.grant("acme", amount=100, expires_at=FAR_FUTURE_MS)
    held = await eu.reserve("acme", amount=30, lease_ms=500)
    await cluster.kill("eu-west")
    await cluster.start("eu-west")
    async with asyncio.timeout(20):
        while (await eu.get_reservation("acme", held.reply.reservation)).state != "lapsed":
            await asyncio.sleep(0.02)
    assert (await eu.balance("acme")).available == 100
