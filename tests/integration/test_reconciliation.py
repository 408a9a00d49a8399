"""What does not add up between real nodes and what a scheduler tells them: found, settled, and gone."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from creditmesh import AsyncClient, FindingGone, Invalid, wire
from creditmesh.testing import LocalCluster
from creditmesh.wire import FindingKind, JobState

FAR_FUTURE_MS = 4_000_000_000_000
HOUR_MS = 3_600_000
GRACE_MS = 1_000

SETTINGS = f"""
[timing]
anti_entropy_interval_ms = 100
settle_after_ms = 60_000
settle_at_most_ms = 60_000
checkpoint_after_ms = 300

[reconciliation]
interval_ms = 200
grace_ms = {GRACE_MS}

[store]
min_free_bytes = 0
"""


@pytest.fixture
async def cluster(creditmesh_cluster: Callable[..., LocalCluster]) -> AsyncIterator[LocalCluster]:
    """Two regions that do not put their books right within the time of a test; acme has credit in both."""
    async with creditmesh_cluster("us-east", "eu-west", settings=SETTINGS) as running:
        await running.start()
        await running.client("us-east").grant("acme", amount=1_000, expires_at=FAR_FUTURE_MS, lot="july")
        await known_everywhere(running)
        yield running


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def job(name: str, state: JobState, started_at: int | None = None, ended_at: int | None = None) -> wire.ScheduledJob:
    return wire.ScheduledJob(tenant="acme", job=name, state=state, started_at=started_at, ended_at=ended_at)


async def known_everywhere(cluster: LocalCluster) -> None:
    """Wait until the regions hold the same entries, whatever they still owe."""
    async with asyncio.timeout(30):
        while True:
            clocks = [(await cluster.client(region).cluster()).clock for region in cluster.running]
            if all(clock == clocks[0] for clock in clocks):
                return
            await asyncio.sleep(0.05)


async def found(client: AsyncClient, kind: FindingKind) -> wire.Finding:
    """Wait for the one finding of a kind."""
    async with asyncio.timeout(30):
        while not (findings := (await client.reconciliation(kind=kind)).findings):
            await asyncio.sleep(0.05)
    (finding,) = findings
    return finding


async def kinds(client: AsyncClient) -> list[FindingKind]:
    return [finding.kind for finding in (await client.reconciliation()).findings]


async def test_a_reservation_that_nobody_uses_is_released_once_in_all_regions(cluster: LocalCluster) -> None:
    us, eu = (cluster.client(region) for region in cluster.regions)
    await us.reserve("acme", 60, lease_ms=HOUR_MS, reservation="r1", job="train-7")
    await known_everywhere(cluster)
    finding = await found(us, FindingKind.NEVER_STARTED)
    assert await found(eu, FindingKind.NEVER_STARTED) == finding
    assert finding.subject == "r1"

    first = await eu.apply_finding("acme", finding.id)
    assert not first.replayed
    await known_everywhere(cluster)
    for client in (us, eu):
        assert await kinds(client) == []
        again = await client.apply_finding("acme", finding.id)
        assert (again.replayed, again.entry) == (True, first.entry)
        assert (await client.balance("acme")).held == 0


async def test_what_two_regions_settle_at_the_same_time_has_one_effect(cluster: LocalCluster) -> None:
    us, eu = (cluster.client(region) for region in cluster.regions)
    await us.debit("acme", 1_050, on_shortage=wire.OnShortage.DEBT)
    await known_everywhere(cluster)
    finding = await found(us, FindingKind.NEGATIVE_BALANCE)
    assert finding.operation is not None
    assert finding.operation.body["amount"] == 50

    await cluster.cut("us-east")
    assert not (await us.apply_finding("acme", finding.id)).replayed
    assert not (await eu.apply_finding("acme", finding.id)).replayed
    await cluster.heal("us-east")
    await known_everywhere(cluster)
    for client in (us, eu):
        balance = await client.balance("acme")
        assert (balance.available, balance.debt) == (0, 0)
        assert FindingKind.NEGATIVE_BALANCE not in await kinds(client)


async def test_a_job_that_ended_and_was_never_reported_is_finished(cluster: LocalCluster) -> None:
    us = cluster.client("us-east")
    await us.reserve("acme", 60, lease_ms=HOUR_MS, reservation="r1", job="train-7")
    ended_at = now_ms()
    await us.put_jobs("slurm", [job("train-7", JobState.FINISHED, ended_at - 500, ended_at)])
    finding = await found(us, FindingKind.UNFINISHED_USAGE)
    assert finding.operation is not None
    assert finding.operation.body == {"job": "train-7", "end": ended_at, "final": True}

    applied = await us.apply_finding("acme", finding.id)
    assert (applied.entry.kind, applied.entry.postings) == ("usage", {"held/r1": -60, "lot/july": 60})
    assert await kinds(us) == []
    assert (await us.get_reservation("acme", "r1")).state is wire.ReservationState.CLOSED


async def test_jobs_that_run_without_a_reservation_are_found_by_what_their_scheduler_says(
    cluster: LocalCluster,
) -> None:
    us, eu = (cluster.client(region) for region in cluster.regions)
    reserved = await us.reserve("acme", 60, lease_ms=300, job="lapsing")
    started_at = now_ms()
    async with asyncio.timeout(30):
        while (await us.get_reservation("acme", reserved.reply.reservation)).state is wire.ReservationState.OPEN:
            await asyncio.sleep(0.05)
    jobs = [job(name, JobState.RUNNING, started_at) for name in ("lapsing", "unreserved")]
    assert (await us.put_jobs("slurm", jobs)).taken
    lapsed = await found(us, FindingKind.LAPSED_RUNNING)
    unreserved = await found(us, FindingKind.RUNNING_UNRESERVED)
    assert (lapsed.subject, unreserved.subject) == ("lapsing", "unreserved")
    for finding in (lapsed, unreserved):
        # Nobody says what they run on.
        assert finding.operation is None
        with pytest.raises(Invalid, match="no snapshot says gpu_type, gpus"):
            await us.apply_finding("acme", finding.id)
    await known_everywhere(cluster)
    assert await kinds(eu) == [], "it is us-east's scheduler"

    assert await cluster.stop("us-east") == 0
    await cluster.start("us-east")
    assert await found(us, FindingKind.LAPSED_RUNNING) == lapsed
    assert (await us.reconciliation()).sources[0].source == "slurm"

    await us.put_jobs("slurm", [job(name, JobState.PENDING) for name in ("lapsing", "unreserved")])
    assert await kinds(us) == []
    with pytest.raises(FindingGone):
        await us.apply_finding("acme", unreserved.id)


async def test_a_compensation_is_posted_when_it_is_asked_for(cluster: LocalCluster) -> None:
    us, eu = (cluster.client(region) for region in cluster.regions)
    await cluster.cut("us-east")
    await us.reserve("acme", 600, lease_ms=HOUR_MS, reservation="first")
    await eu.reserve("acme", 700, lease_ms=HOUR_MS, reservation="second")
    await cluster.heal("us-east")
    await known_everywhere(cluster)
    finding = await found(us, FindingKind.BOOKS_DIFFER)
    assert finding == await found(eu, FindingKind.BOOKS_DIFFER)
    assert (finding.region, finding.subject) == ("eu-west", "second")

    with pytest.raises(Invalid, match="eu-west"):
        await us.apply_finding("acme", finding.id)
    applied = await eu.apply_finding("acme", finding.id)
    assert applied.entry.postings == {"lot/july": 300, "debt": -300}
    await known_everywhere(cluster)
    for client in (us, eu):
        assert await kinds(client) == [FindingKind.NEGATIVE_BALANCE]
        assert (await client.apply_finding("acme", finding.id)).entry == applied.entry
        assert (await client.audit()).books_equal


async def test_a_node_counts_what_it_finds_by_itself(cluster: LocalCluster) -> None:
    us = cluster.client("us-east")
    await us.debit("acme", 1_050, on_shortage=wire.OnShortage.DEBT)
    async with asyncio.timeout(30):
        while not (findings := (await us.cluster()).findings) or not findings["negative_balance"]:
            await asyncio.sleep(0.05)
    assert findings == dict.fromkeys(FindingKind, 0) | {"negative_balance": 1}
    assert "event=reconciliation region=us-east" in cluster.log_of("us-east")
