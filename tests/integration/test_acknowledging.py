"""What somebody says of a conflict in one region is shown, and told to those who follow, in every other."""

import asyncio
import signal
from contextlib import suppress
from itertools import count
from typing import Final

import pytest

from creditmesh import NotFound, wire
from creditmesh.testing import LocalCluster
from creditmesh.testing.cluster import CLI

FAR_FUTURE_MS: Final = 4_000_000_000_000


async def overspent(cluster: LocalCluster, *tenants: str) -> list[wire.Conflict]:
    """Two regions spend the same 50 of each tenant while they are apart; the reports once the books are right."""
    us, eu, ap = (cluster.client(region) for region in cluster.regions)
    for tenant in tenants:
        await us.grant(tenant, amount=50, expires_at=FAR_FUTURE_MS)
    await cluster.converged()
    await cluster.cut("us-east")
    for tenant in tenants:
        await us.debit(tenant, amount=50)
        await eu.debit(tenant, amount=50)
    await cluster.heal("us-east")
    await cluster.converged()
    reports = (await ap.conflicts()).conflicts
    assert sorted(report.tenant for report in reports) == sorted(tenants)
    return reports


async def test_what_is_said_in_one_region_is_shown_and_told_in_another(cluster: LocalCluster) -> None:
    us, _, ap = (cluster.client(region) for region in cluster.regions)
    (report,) = await overspent(cluster, "acme")
    following = ap.follow_conflicts(tenant="acme")
    events = aiter(following)
    told = asyncio.ensure_future(anext(events))
    while following.last_id is None:
        await asyncio.sleep(0.01)
    await us.acknowledge(report.id, by="ann", note="told them")
    said = (await told).conflict
    assert said is not None
    await events.aclose()

    assert [(one.by, one.note, one.region) for one in said.acknowledged] == [("ann", "told them", "us-east")]
    assert (await ap.conflict(report.id)).conflict == (await us.conflict(report.id)).conflict == said
    assert (await ap.conflicts(acknowledged=False)).conflicts == []
    assert (await ap.balance("acme")).debt == 50, "it moves no credit"


async def test_a_second_region_says_so_too_and_all_keep_both(cluster: LocalCluster) -> None:
    us, _, ap = (cluster.client(region) for region in cluster.regions)
    (report,) = await overspent(cluster, "acme")
    await us.acknowledge(report.id, by="ann")
    await cluster.converged()
    again = await ap.acknowledge(report.id, by="bob", key="k")
    assert again.reply.again
    await cluster.converged()
    replayed = await us.acknowledge(report.id, by="bob", key="k")
    assert replayed.replayed
    assert replayed.dot == again.dot
    for client in cluster.clients.values():
        both = (await client.conflict(report.id)).conflict.acknowledged
        assert [said.by for said in both] == ["ann", "bob"]
        assert (await client.audit()).ok
    with pytest.raises(NotFound):
        await us.acknowledge(report.id.replace("overspend", "lunch"), by="ann")


async def test_a_watch_goes_on_over_a_restart_of_its_node_and_ends_when_it_is_told_to(cluster: LocalCluster) -> None:
    reports = await overspent(cluster, *(f"tenant-{number}" for number in range(6)))
    watch = await asyncio.create_subprocess_exec(
        # Tests that are run in the background may have been told to ignore Ctrl-C, and so would their children.
        *("env", "--default-signal=INT", *CLI, "conflicts", "watch", "--url", cluster.urls["ap-south"]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert watch.stdout is not None
    assert watch.stderr is not None
    line = b""
    try:
        for number in count():  # nobody sees from outside since when it follows: something is said until it tells it
            await cluster.client("us-east").acknowledge(reports[number % 6].id, by=f"ann-{number}")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    line = await watch.stdout.readline()
                    break
        assert b"compensated  tenant-" in line
        assert b"acknowledged by ann-" in line
        await cluster.restart("ap-south")
        while b"something was missed" not in line:
            line = await watch.stdout.readline()
            assert line, "it has ended"
        watch.send_signal(signal.SIGINT)
        assert await watch.wait() == 0
        assert b"Traceback" not in await watch.stderr.read()
    finally:
        if watch.returncode is None:
            watch.kill()
            await watch.wait()
