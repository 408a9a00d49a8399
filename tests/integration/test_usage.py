"""What schedulers tell of jobs, at least once, late, and in several regions at once: real nodes charge for it once."""

import time
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest

from creditmesh import wire
from creditmesh.testing import LocalCluster
from creditmesh.wire import EventFlag, EventStatus

FAR_FUTURE_MS = 4_000_000_000_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000

RATES = """
[timing]
anti_entropy_interval_ms = 100
settle_after_ms = 200
checkpoint_after_ms = 300

[store]
min_free_bytes = 0

[[rates]]
gpu_hour = { A100 = 60 }
multiplier = { spot = "0.5" }
"""


@pytest.fixture
async def cluster(creditmesh_cluster: Callable[..., LocalCluster]) -> AsyncIterator[LocalCluster]:
    """Three regions in which a GPU-hour costs 60; acme has had 10,000 since yesterday."""
    async with creditmesh_cluster("us-east", "eu-west", "ap-south", settings=RATES) as running:
        await running.start()
        yesterday = now_ms() - 24 * HOUR_MS
        await running.client("us-east").grant("acme", 10_000, expires_at=FAR_FUTURE_MS, starts_at=yesterday)
        await running.converged()
        yield running


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def ran(name: str, start: int, end: int, job: str = "train") -> wire.Interval:
    return wire.Interval(id=name, tenant="acme", job=job, start=start, end=end, gpu_type="A100", gpus=1)


async def test_usage_reported_in_two_cut_off_regions_is_charged_for_the_union(cluster: LocalCluster) -> None:
    us, eu, ap = (cluster.client(region) for region in cluster.regions)
    begun = now_ms() - 2 * HOUR_MS
    await us.reserve("acme", 200, lease_ms=HOUR_MS, reservation="r1", job="train")
    await cluster.converged()
    await cluster.cut("us-east")
    first = await us.report([ran("a", begun, begun + 60 * MINUTE_MS), ran("b", begun, begun + 30 * MINUTE_MS)])
    second = await eu.report([ran("c", begun + 40 * MINUTE_MS, begun + 90 * MINUTE_MS)])
    assert [result.charged for result in first.results + second.results] == [60, 0, 50]
    await cluster.heal("us-east")
    await cluster.converged()
    balances = [await client.balance("acme") for client in (us, eu, ap)]
    assert {(balance.used, balance.held, balance.available) for balance in balances} == {(90, 110, 9_800)}
    (report,) = (await ap.conflicts()).conflicts
    assert (report.kind, report.state, report.loser.kind) == (
        wire.ConflictKind.OVERLAP, wire.ConflictState.COMPENSATED, "usage",
    )  # fmt: skip
    assert report.amount == 20


async def test_a_thousand_events_in_any_order_sent_to_all_regions_are_charged_once(cluster: LocalCluster) -> None:
    clients = [cluster.client(region) for region in cluster.regions]
    begun = now_ms() - 20 * HOUR_MS
    events = [ran(f"e{number}", begun + number * MINUTE_MS, begun + (number + 1) * MINUTE_MS) for number in range(1000)]
    random = Random(7)
    for client in clients:
        random.shuffle(events)
        reply = await client.report(events)
        assert reply.refused == 0
    await cluster.converged()
    again = await clients[0].report(events)
    assert (again.accepted, again.duplicates, again.refused) == (0, 1000, 0)
    for client in clients:
        balance = await client.balance("acme")
        assert (balance.used, balance.debt, balance.available) == (1_000, 0, 9_000)
        assert (await client.audit()).ok


async def test_a_jobs_life_told_backwards(cluster: LocalCluster) -> None:
    us, eu, ap = (cluster.client(region) for region in cluster.regions)
    now = now_ms()
    await us.reserve("acme", 500, lease_ms=HOUR_MS, reservation="r1", job="train")
    await cluster.converged()
    finished = wire.JobFinished(
        id="f", tenant="acme", job="train", end=now, start=now - HOUR_MS, gpu_type="A100", gpus=2
    )
    (ended,) = (await eu.report([finished])).results
    assert (ended.charged, ended.held, ended.state) == (120, 0, "closed")
    await cluster.converged()
    (late,) = (await ap.report([ran("u", now - 2 * HOUR_MS, now)])).results
    assert (late.charged, late.flags) == (60, [EventFlag.ENDED, EventFlag.PARTLY_COVERED])
    (beat,) = (await us.report([wire.Heartbeat(id="h", tenant="acme", job="train", at=now - MINUTE_MS)])).results
    assert beat.status is EventStatus.ACCEPTED
    await cluster.converged()
    balance = await us.balance("acme")
    assert (balance.used, balance.held) == (180, 0)


async def test_what_is_wrong_with_one_event_is_told_of_that_event(cluster: LocalCluster) -> None:
    us = cluster.client("us-east")
    now = now_ms()
    good = {"id": "g", "tenant": "acme", "type": "usage", "job": "train", "amount": 5, "start": now - 1000, "end": now}
    reply = await us.report(
        [
            {**good, "id": "future", "start": now + 3 * HOUR_MS, "end": now + 4 * HOUR_MS},
            {**good, "id": "before", "start": now - 48 * HOUR_MS, "end": now - 47 * HOUR_MS},
            {**good, "id": "backwards", "start": now, "end": now - 1},
            {"id": "gpu", "tenant": "acme", "type": "usage", "job": "j", "gpu_type": "ABACUS", "gpus": 1}
            | {"start": now - 1000, "end": now},
            {**good, "id": "nobody", "tenant": "nobody"},
            {**good, "id": "word", "colour": "red"},
            good,
        ]
    )
    assert [result.id for result in reply.results] == ["future", "before", "backwards", "gpu", "nobody", "word", "g"]
    problems = [result.problem for result in reply.results]
    assert [problem.get("field") if problem is not None else None for problem in problems] == [
        "end", "start", "end", "gpu_type", None, "colour", None,
    ]  # fmt: skip
    assert (reply.accepted, reply.refused) == (1, 6)
    assert (await us.balance("acme")).used == 5


async def test_a_job_that_runs_without_a_reservation_is_found_priced_and_charged_once(cluster: LocalCluster) -> None:
    us, eu, _ = (cluster.client(region) for region in cluster.regions)
    now = now_ms()
    stray = wire.ScheduledJob(
        tenant="acme",
        job="stray",
        state=wire.JobState.RUNNING,
        started_at=now - 30 * MINUTE_MS,
        gpu_type="A100",
        gpus=4,
    )
    await us.put_jobs("slurm", [stray], at=now)
    (finding,) = (await us.reconciliation()).findings
    assert finding.kind is wire.FindingKind.RUNNING_UNRESERVED
    assert finding.operation is not None
    assert finding.operation.body["amount"] == 120
    applied = await us.apply_finding("acme", finding.id)
    await cluster.converged()
    again = await eu.apply_finding("acme", finding.id)
    assert (applied.replayed, again.replayed, again.entry.seq) == (False, True, applied.entry.seq)
    assert (await eu.balance("acme")).used == 120
