"""What `LocalCluster` can do to real nodes, one fault at a time, and that the nodes get over it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from creditmesh import wire
from creditmesh.testing import ClusterFailure, LocalCluster
from tests.integration.conftest import SETTINGS

FAR_FUTURE_MS = 4_000_000_000_000


@pytest.fixture
async def pair(creditmesh_cluster: Callable[..., LocalCluster]) -> AsyncIterator[LocalCluster]:
    """Two regions, running; `acme` has 1,000, and both know."""
    async with creditmesh_cluster("here", "there", settings=SETTINGS, seed=1) as running:
        await running.start()
        await running.client("here").grant("acme", 1_000, expires_at=FAR_FUTURE_MS)
        await running.converged()
        yield running


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.02)


async def used(cluster: LocalCluster, region: str) -> int:
    return (await cluster.client(region).balance("acme")).used


async def test_a_paused_node_takes_up_where_it_stood(pair: LocalCluster) -> None:
    pair.pause("there")
    await pair.client("here").debit("acme", 10)
    pair.resume("there")
    await pair.converged()
    assert await used(pair, "there") == 10


async def test_what_one_region_says_gets_lost_while_it_still_hears_the_other(
    creditmesh_cluster: Callable[..., LocalCluster],
) -> None:
    # Long intervals: the link is not taken for dead while one direction of it is.
    settings = SETTINGS.replace("interval_ms = 100", "interval_ms = 2000")
    async with creditmesh_cluster("here", "there", settings=settings) as pair:
        await pair.start()
        await pair.client("here").grant("acme", 1_000, expires_at=FAR_FUTURE_MS)
        await pair.converged()
        await pair.cut_one_way("here", "there")
        await pair.client("there").debit("acme", 1)
        await until(lambda: _is(used(pair, "here"), 1))
        await pair.client("here").debit("acme", 10)
        assert await used(pair, "there") == 1
        await pair.heal()
        await pair.converged()
        assert await used(pair, "there") == 11


async def _is(value: Awaitable[int], expected: int) -> bool:
    return await value == expected


async def test_a_node_cuts_its_own_link_when_it_is_told_to(pair: LocalCluster) -> None:
    here = pair.client("here")
    await here.set_link("there", wire.LinkState.CUT)
    (link,) = (await here.cluster()).regions
    assert (link.cut, link.linked) == (True, False)
    await pair.client("there").debit("acme", 10)
    assert await used(pair, "here") == 0
    await here.set_link("there", wire.LinkState.OPEN)
    await pair.converged()
    assert await used(pair, "here") == 10


async def test_flipped_bits_are_refused_and_everything_arrives_all_the_same(pair: LocalCluster) -> None:
    await pair.corrupt("here", probability=0.5)
    link = pair.link("here", "there")
    spent = 0
    while link.forth.flipped + link.back.flipped < 10:
        await pair.client("here").debit("acme", 1)
        spent += 1
        await asyncio.sleep(0.02)
    await pair.heal()
    await pair.converged()
    assert await used(pair, "there") == spent
    for client in pair.clients.values():
        assert (await client.audit()).ok


async def test_late_and_lost_connections_delay_and_lose_nothing(pair: LocalCluster) -> None:
    await pair.delay("here", ms=20, jitter_ms=50)
    flapping = asyncio.create_task(pair.flap("here", times=5, every_seconds=0.1))
    for _ in range(20):
        await pair.client("there").debit("acme", 1)
    await flapping
    assert pair.link("here", "there").dropped
    await pair.converged()
    assert await used(pair, "here") == 20


async def test_entries_from_a_clock_that_is_far_ahead_wait_with_an_alarm_until_it_is_right(
    creditmesh_cluster: Callable[..., LocalCluster],
) -> None:
    settings = SETTINGS.replace("[timing]", "[timing]\nmax_clock_drift_ms = 1000")
    async with creditmesh_cluster("here", "there", settings=settings) as pair:
        await pair.start()
        await pair.skew("there", 4_000)
        await pair.client("there").grant("acme", 1_000, expires_at=FAR_FUTURE_MS)

        async def alarmed() -> bool:
            return any(alarm.kind == "clock-ahead" for alarm in (await pair.client("here").cluster()).alarms)

        await until(alarmed)
        assert not (await pair.client("here").cluster()).clock
        await pair.right_clock("there")
        await pair.converged()
        assert (await pair.client("here").balance("acme")).available == 1_000


async def test_a_wrong_clock_stays_wrong_when_its_node_is_killed_and_started(pair: LocalCluster) -> None:
    before_ms = (await pair.client("there").set_clock()).now
    await pair.skew("there", 3_600_000)
    await pair.freeze_clock("there")
    await pair.kill("there")
    await pair.start("there")
    held = await pair.client("there").reserve("acme", 1, lease_ms=1_000)
    assert held.reply.lease_until >= before_ms + 3_600_000
    await pair.right_clock("there")
    assert (await pair.client("there").set_clock()).now < before_ms + 3_600_000


async def test_what_an_old_backup_lacks_comes_back_from_the_peers(pair: LocalCluster) -> None:
    there = pair.client("there")
    first = await there.debit("acme", 1)
    writing = asyncio.create_task(_debit_until_cancelled(pair, "there"))
    backup = await pair.backup("there")
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    later = await there.debit("acme", 100)
    await pair.converged()
    before = await used(pair, "here")
    await pair.restore_backup("there", backup)
    last = await there.debit("acme", 10)
    await pair.converged()
    assert first.dot is not None
    assert later.dot is not None
    assert last.dot is not None
    assert first.dot.replica == later.dot.replica != last.dot.replica, "a restored node begins a log of its own"
    assert await used(pair, "there") == await used(pair, "here") == before + 10
    for client in pair.clients.values():
        audit = await client.audit()
        assert audit.ok, audit.findings


async def _debit_until_cancelled(cluster: LocalCluster, region: str) -> None:
    while True:
        await cluster.client(region).debit("acme", 1)


async def test_an_emptied_node_gets_everything_from_the_peers(pair: LocalCluster) -> None:
    await pair.client("there").debit("acme", 10)
    await pair.converged()
    await pair.lose_disk("there")
    await pair.converged()
    assert await used(pair, "there") == 10


async def test_a_cluster_that_does_not_converge_says_which_logs_differ(pair: LocalCluster) -> None:
    await pair.cut("here")
    dot = (await pair.client("here").debit("acme", 10)).dot
    assert dot is not None
    with pytest.raises(ClusterFailure, match=f"there: 1 entries, 0 tenants unsettled, {dot.replica} up to 1"):
        await pair.converged(0.5)


async def test_a_restore_over_a_foreign_backup_is_refused_with_the_commands_own_words(pair: LocalCluster) -> None:
    backup = await pair.backup("here")
    with pytest.raises(ClusterFailure, match="holds a store of region 'here', not of 'there'"):
        await pair.restore_backup("there", backup)
    await pair.start("there")
    assert (await pair.client("there").balance("acme")).available == 1_000


async def test_a_peer_that_takes_connections_and_says_nothing_is_given_up_and_dialled_again(pair: LocalCluster) -> None:
    silent: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: silent.put_nowait(writer), "127.0.0.1", 0)
    link = pair.link("here", "there")
    true_target, link.target = link.target, server.sockets[0].getsockname()[:2]
    await pair.drop("here")
    writer = await silent.get()
    link.target = true_target
    await pair.client("here").debit("acme", 10)
    await pair.converged()
    assert await used(pair, "there") == 10
    writer.close()
    server.close()
