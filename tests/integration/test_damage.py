"""Bits flip in the data files of real nodes: nothing wrong is answered or sent, and the nodes come right again."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from creditmesh import AsyncClient, CreditmeshError, wire
from creditmesh.testing import ClusterFailure, LocalCluster

FAR_FUTURE_MS = 4_000_000_000_000
LOG, CLOSED = b"log", b"closed"


def flip(data: Path, table: bytes, wanted: Callable[[bytes, bytes], bool]) -> None:
    """Flip a bit in the file of a stopped node, in the middle of the first value that is wanted."""
    with lmdb.open(str(data), subdir=False, readonly=True, lock=False, max_dbs=1) as env:
        rows = env.open_db(table, create=False)
        with env.begin(rows) as txn:
            value = next(value for key, value in txn.cursor() if wanted(key, value))
    content = bytearray(data.read_bytes())
    # The same bytes may stand in freed pages, too.
    at = content.find(value)
    while at >= 0:
        content[at + len(value) // 2] ^= 0x10
        at = content.find(value, at + 1)
    data.write_bytes(content)


async def holds(client: AsyncClient, condition: Callable[[wire.ClusterReply], bool]) -> wire.ClusterReply:
    """Wait until something is true of the cluster as a node sees it."""
    async with asyncio.timeout(30):
        while not condition(reply := await client.cluster()):
            await asyncio.sleep(0.05)
    return reply


def alarms(reply: wire.ClusterReply, kind: str) -> list[str]:
    return [alarm.detail for alarm in reply.alarms if alarm.kind == kind]


async def spent(cluster: LocalCluster, count: int) -> None:
    """A tenant with some debits, each in a commit of its own, known and checkpointed everywhere."""
    us = cluster.client("us-east")
    await us.grant("acme", amount=1_000, expires_at=FAR_FUTURE_MS, key="grant")
    for number in range(count):
        await us.debit("acme", amount=1, debit=f"debit-{number}", key=f"debit-{number}")
    await cluster.converged()
    for region in cluster.regions:
        # Another entry of each region, and promises after it: what came before is in rows.
        await cluster.client(region).debit("acme", amount=1, key=f"last-{region}")
    await cluster.converged()


async def frontier_beyond(cluster: LocalCluster) -> None:
    """Wait until all that there is now is stable, and has been for longer than checkpoints wait."""
    us = cluster.client("us-east")
    reached = (await holds(us, lambda reply: reply.frontier.hlc is not None)).frontier.hlc
    assert reached is not None
    wanted = reached[0] + 1_000
    await holds(us, lambda reply: reply.frontier.hlc is not None and reply.frontier.hlc[0] > wanted)


async def test_a_damaged_commit_is_not_served_and_is_fetched_again(cluster: LocalCluster) -> None:
    await spent(cluster, 20)
    await frontier_beyond(cluster)
    us = cluster.client("us-east")
    assert await cluster.stop("us-east") == 0
    for region in ("eu-west", "ap-south"):
        await cluster.cut("us-east", [region])
    flip(cluster.root / "us-east" / "data.mdb", LOG, lambda _, value: b"debit-7" in value)
    await cluster.start("us-east")

    with pytest.raises(CreditmeshError, match="is not what was written"):
        await us.debit("acme", amount=1, debit="debit-7", key="debit-7")
    assert (await us.balance("acme")).used == 23
    (detail,) = alarms(await holds(us, lambda reply: bool(alarms(reply, "damaged-entry"))), "damaged-entry")
    assert "1 of 1 are lost" in detail
    with pytest.raises(CreditmeshError):
        [entry async for entry in us.export()]  # an export that left it out would be one of something else
    with pytest.raises(CreditmeshError, match="is not what was written"):
        await us.statement("acme", since=0, to=FAR_FUTURE_MS)  # and so would a statement
    with pytest.raises(CreditmeshError, match="is not what was written"):
        [piece async for piece in us.statement_csv("acme", since=0, to=FAR_FUTURE_MS)]
    await us.debit("acme", amount=1, key="others-are-served")

    await cluster.heal()
    repaired = await holds(us, lambda reply: "whole again" in alarms(reply, "damaged-entry")[0])
    assert "with what" in alarms(repaired, "damaged-entry")[0]
    assert (await us.debit("acme", amount=1, debit="debit-7", key="debit-7")).replayed
    assert (await us.statement("acme", since=0, to=FAR_FUTURE_MS)).closing.used == 24
    await cluster.converged()
    audit = await us.audit()
    assert audit.ok, audit.findings


async def test_a_damaged_row_stops_the_node_and_its_next_start_works_it_out_again(cluster: LocalCluster) -> None:
    await spent(cluster, 20)
    await frontier_beyond(cluster)
    us = cluster.client("us-east")
    before = (await us.cluster(digest=True)).digest
    assert await cluster.stop("us-east") == 0
    flip(cluster.root / "us-east" / "data.mdb", CLOSED, lambda key, _: b"debit-7" in key)
    await cluster.start("us-east")

    with pytest.raises(CreditmeshError):
        await us.refund("acme", claim="debit-7", amount=1, key="refund")
    with pytest.raises(ClusterFailure, match="us-east ended with 1"):
        await cluster.ready("us-east")
    assert "debit-7 of the table closed is not what was written" in cluster.log_of("us-east")
    await cluster.start("us-east")
    assert (await us.cluster(digest=True)).digest == before
    assert not (await us.refund("acme", claim="debit-7", amount=1, key="refund")).replayed
    assert "are whole and in their places" in alarms(await us.cluster(), "store-rebuilt")[0]
    audit = await us.audit()
    assert audit.ok, audit.findings
    await cluster.converged()
