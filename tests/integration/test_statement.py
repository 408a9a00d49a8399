"""Statements of real nodes: the same in every region, whatever each has heard of in which order."""

import asyncio
import csv
import io

from creditmesh.testing import LocalCluster

FAR_FUTURE_MS = 4_000_000_000_000


async def test_regions_that_were_apart_tell_the_same_of_the_time_in_which_they_were(cluster: LocalCluster) -> None:
    us, eu, ap = (cluster.client(region) for region in cluster.regions)
    granted = await us.grant("acme", amount=100, expires_at=FAR_FUTURE_MS)
    begin = granted.reply.starts_at
    await cluster.converged()
    await cluster.cut("eu-west")
    await us.debit("acme", amount=80)
    lost = await eu.debit("acme", amount=70)
    await eu.grant("acme", amount=60, expires_at=FAR_FUTURE_MS, starts_at=begin - 1_000)
    await cluster.heal()
    await cluster.converged()
    end = lost.reply.at + 1_000
    statements = [await client.statement("acme", since=begin - 2_000, to=end) for client in (us, eu, ap)]
    first = statements[0]
    assert [line.kind for line in first.lines] == ["grant", "grant", "debit", "debit"]
    assert [line.available for line in first.lines] == [60, 160, 80, 10]
    for client, statement in zip((us, eu, ap), statements, strict=True):
        assert (statement.opening, statement.lines, statement.closing) == (first.opening, first.lines, first.closing)
        assert statement.closing.available == (await client.balance("acme", at=end - 1)).available == 10
        assert (await client.balance("acme", at=begin - 1)).available == 60
        assert [region.region for region in statement.open_regions] == ["ap-south", "eu-west", "us-east"]
        pieces = [piece async for piece in client.statement_csv("acme", since=begin - 2_000, to=end)]
        rows = list(csv.DictReader(io.StringIO(b"".join(pieces).decode())))
        assert [row["entry"] for row in rows[1:-1]] == [line.entry for line in first.lines]
    # 1970 is over, and everybody has promised to leave it alone.
    long_ago = await ap.statement("acme", since=0, to=1)
    assert (long_ago.final, long_ago.open_regions, long_ago.lines) == (True, [], [])


async def test_a_long_history_is_told_while_others_are_served_and_holds_still_at_its_moment(
    cluster: LocalCluster,
) -> None:
    us = cluster.client("us-east")
    await us.grant("acme", amount=10_000, expires_at=FAR_FUTURE_MS)
    for _ in range(12):
        await asyncio.gather(*(us.debit("acme", amount=1) for _ in range(50)))
    telling = asyncio.create_task(us.statement("acme", since=0, to=FAR_FUTURE_MS, limit=1000))
    await asyncio.gather(*(us.debit("acme", amount=1) for _ in range(100)))
    told = await telling
    assert told.closing.available == 10_000 - len(told.lines) + 1
    assert told.closing.used == len(told.lines) - 1 >= 600
    assert (await us.statement("acme", since=0, to=FAR_FUTURE_MS)).closing.used == 700
