"""Regions that cannot see each other spend the same credit; when they meet, every one tells the same story."""

from typing import Final

from creditmesh import wire
from creditmesh.testing import LocalCluster

LEASE_MS: Final = 3_600_000
FAR_FUTURE_MS: Final = 4_000_000_000_000


async def test_a_partition_ends_in_the_same_debt_and_the_same_report_everywhere(cluster: LocalCluster) -> None:
    us, eu, ap = (cluster.client(region) for region in cluster.regions)
    await us.grant("acme", amount=100, expires_at=FAR_FUTURE_MS, lot="gift", key="grant")
    await cluster.converged()

    await cluster.cut("us-east")
    first = await us.reserve("acme", amount=70, lease_ms=LEASE_MS, key="job-1")
    second = await eu.reserve("acme", amount=60, lease_ms=LEASE_MS, key="job-2")
    assert first.reply.debt == second.reply.debt == 0
    await cluster.heal("us-east")
    await cluster.converged()

    reports = [(await client.conflicts()).conflicts for client in (us, eu, ap)]
    assert reports[0] == reports[1] == reports[2]
    (report,) = reports[0]
    assert report.kind is wire.ConflictKind.OVERSPEND
    assert report.state is wire.ConflictState.COMPENSATED
    assert report.debt == 30
    assert {report.loser.key, report.rivals[0].key} == {"job-1", "job-2"}
    for client in (us, eu, ap):
        balance = await client.balance("acme")
        assert (balance.available, balance.held, balance.debt) == (-30, 130, 30)
        audit = await client.audit()
        assert audit.ok, audit.findings
        assert audit.books_equal


async def test_the_next_grant_repays_the_debt(cluster: LocalCluster) -> None:
    us, eu, _ = (cluster.client(region) for region in cluster.regions)
    await us.grant("acme", amount=50, expires_at=FAR_FUTURE_MS)
    await cluster.converged()
    await cluster.cut("eu-west")
    await us.debit("acme", amount=50)
    await eu.debit("acme", amount=50)
    await cluster.heal("eu-west")
    await cluster.converged()
    assert (await us.debts()).debts[0].debt == 50

    await eu.grant("acme", amount=80, expires_at=FAR_FUTURE_MS)
    await cluster.converged()
    assert not (await us.debts()).debts
    assert (await us.balance("acme")).available == 30
    assert [report.state for report in (await us.conflicts()).conflicts] == [wire.ConflictState.REPAID]


async def test_a_region_behind_a_cut_link_is_reached_through_a_third(cluster: LocalCluster) -> None:
    await cluster.cut("us-east", ["ap-south"])
    await cluster.client("us-east").grant("acme", amount=10, expires_at=FAR_FUTURE_MS)
    await cluster.converged()
    assert (await cluster.client("ap-south").balance("acme")).available == 10


async def test_the_same_request_retried_in_two_cut_off_regions_counts_once(cluster: LocalCluster) -> None:
    us, eu, ap = (cluster.client(region) for region in cluster.regions)
    await us.grant("acme", amount=100, expires_at=FAR_FUTURE_MS)
    await cluster.converged()
    await cluster.cut("us-east")
    await us.reserve("acme", amount=40, lease_ms=LEASE_MS, key="job-1")
    await eu.reserve("acme", amount=40, lease_ms=LEASE_MS, key="job-1")
    await cluster.heal("us-east")
    await cluster.converged()

    (report,) = (await ap.conflicts()).conflicts
    assert report.kind is wire.ConflictKind.DUPLICATE
    balance = await ap.balance("acme")
    assert (balance.available, balance.held) == (60, 40)


async def test_a_retry_in_another_region_gets_the_first_reply(cluster: LocalCluster) -> None:
    us, eu, _ = (cluster.client(region) for region in cluster.regions)
    await us.grant("acme", amount=100, expires_at=FAR_FUTURE_MS)
    first = await us.reserve("acme", amount=40, lease_ms=LEASE_MS, key="job-1")
    await cluster.converged()
    await cluster.kill("us-east")
    again = await eu.reserve("acme", amount=40, lease_ms=LEASE_MS, key="job-1")
    assert again.replayed
    assert again.dot == first.dot
    assert again.reply.reservation == first.reply.reservation
    assert again.reply.lease_until == first.reply.lease_until
    assert (await eu.balance("acme")).held == 40
