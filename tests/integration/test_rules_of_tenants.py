"""Policies, transfers, batches and escrow between real nodes."""

from typing import Final

import pytest

from creditmesh import AsyncClient, Dot, InsufficientCredit, ReservationEnded, wire
from creditmesh.testing import LocalCluster
from creditmesh.wire import Admission, ConflictKind, OnOverspend

FAR_FUTURE_MS: Final = 4_000_000_000_000
LEASE_MS: Final = 3_600_000


async def three(cluster: LocalCluster, amount: int = 100) -> tuple[AsyncClient, AsyncClient, AsyncClient]:
    """The clients of the regions, all of which know of a grant to acme."""
    us, eu, ap = (cluster.client(region) for region in cluster.regions)
    await us.grant("acme", amount, expires_at=FAR_FUTURE_MS, lot="gift")
    await cluster.converged()
    return us, eu, ap


async def test_a_hold_that_lost_is_void_and_its_scheduler_learns_at_the_next_renewal(cluster: LocalCluster) -> None:
    us, eu, ap = await three(cluster)
    await us.set_policy("acme", on_overspend=OnOverspend.REVOKE)
    await cluster.converged()
    await cluster.cut("us-east")
    await us.reserve("acme", 70, lease_ms=LEASE_MS, reservation="first")
    await eu.reserve("acme", 60, lease_ms=LEASE_MS, reservation="second")
    await eu.capture("acme", "second", 10)
    await cluster.heal("us-east")
    await cluster.converged()

    void = [report for report in (await ap.conflicts()).conflicts if report.canonical_outcome == "revoked"]
    assert [(report.kind, report.loser.claim) for report in void] == [(ConflictKind.REVOKED, "second")]
    with pytest.raises(ReservationEnded) as refused:
        await eu.renew("acme", "second", lease_ms=LEASE_MS)
    problem = refused.value.problem
    assert (problem.state, problem.conflict) == ("revoked", void[0].id)
    assert (await us.conflict(void[0].id)).conflict == void[0]
    for client in (us, eu, ap):
        balance = await client.balance("acme")
        # What was captured on it is an overrun; the first hold stands.
        assert (balance.held, balance.used, balance.available, balance.debt) == (70, 10, 20, 0)
        assert (await client.get_reservation("acme", "second")).state is wire.ReservationState.REVOKED
        assert (await client.audit()).ok


async def test_the_same_credit_given_away_on_both_sides_of_a_cut_is_given_and_owed(cluster: LocalCluster) -> None:
    us, eu, ap = await three(cluster)
    for tenant in ("umbra", "corp"):
        await us.grant(tenant, 1, expires_at=FAR_FUTURE_MS)
    await cluster.converged()
    await cluster.cut("us-east")
    first = await us.transfer("acme", "umbra", 80)
    await eu.transfer("acme", "corp", 80)
    await cluster.heal("us-east")
    await cluster.converged()
    for client in (us, eu, ap):
        figures = {}
        for tenant in ("acme", "umbra", "corp"):
            balance = await client.balance(tenant)
            figures[tenant] = (balance.available, balance.debt)
        assert figures == {"acme": (-60, 60), "umbra": (81, 0), "corp": (81, 0)}
    (report,) = (await ap.conflicts()).conflicts
    assert (report.kind, report.debt, report.loser.kind) == (ConflictKind.OVERSPEND, 60, "transfer")
    # One entry stands in both accounts.
    for tenant in ("acme", "umbra"):
        entries = (await ap.entries(tenant)).entries
        assert first.dot in [Dot(entry.replica, entry.seq) for entry in entries if entry.kind == "transfer"]


async def test_the_same_transfer_asked_for_on_both_sides_of_a_cut_is_one(cluster: LocalCluster) -> None:
    us, eu, ap = await three(cluster)
    await us.grant("umbra", 1, expires_at=FAR_FUTURE_MS)
    await cluster.converged()
    await cluster.cut("us-east")
    await us.transfer("acme", "umbra", 30, key="rent")
    await eu.transfer("acme", "umbra", 30, key="rent")
    await cluster.heal("us-east")
    await cluster.converged()
    assert [(await ap.balance(tenant)).available for tenant in ("acme", "umbra")] == [70, 31]
    kinds = {report.kind for report in (await ap.conflicts()).conflicts}
    assert kinds == {ConflictKind.DUPLICATE}


async def test_a_bad_operation_of_a_batch_spoils_nothing_else_and_asking_again_changes_nothing(
    cluster: LocalCluster,
) -> None:
    us, eu, _ = await three(cluster)

    def operation(kind: str, key: str, name: str | None = None, **body: object) -> dict[str, object]:
        return {"operation": kind, "tenant": "acme", "key": key, "id": name, "body": body}

    debits = [operation("debit", f"d{number}", amount=1) for number in range(90)]
    bad = [
        operation("debit", "negative", amount=-1),
        operation("reserve", "too-much", amount=11, lease_ms=1_000),
        operation("release", "unknown", "none"),
    ]
    reply = await us.batch([bad[0], *debits, *bad[1:]])
    assert [result.status for result in reply.results] == [400, *[201] * 90, 402, 404]
    assert (reply.accepted, reply.refused) == (90, 3)
    await cluster.converged()
    again = await eu.batch(debits)
    assert all(result.replayed for result in again.results)
    assert [result.entry for result in again.results] == [result.entry for result in reply.results[1:91]]
    assert (await eu.balance("acme")).used == 90


async def test_under_escrow_no_cut_makes_anybody_overspend_and_credit_moves_where_it_is_asked_for(
    cluster: LocalCluster,
) -> None:
    us, eu, ap = (cluster.client(region) for region in cluster.regions)
    await us.grant("acme", 1, expires_at=FAR_FUTURE_MS, lot="first")
    await us.set_policy("acme", admission=Admission.ESCROW)
    await cluster.converged()
    granted = await us.grant("acme", 90, expires_at=FAR_FUTURE_MS, lot="gift")
    assert granted.reply.shares == {"ap-south": 30, "eu-west": 30, "us-east": 30}
    await cluster.converged()
    await cluster.cut("us-east")
    with pytest.raises(InsufficientCredit) as refused:
        await us.reserve("acme", 40, lease_ms=LEASE_MS)
    assert (refused.value.problem.available, refused.value.problem.elsewhere) == (31, 60)
    await us.reserve("acme", 31, lease_ms=LEASE_MS)
    moved = await eu.reserve("acme", 50, lease_ms=LEASE_MS, wait_ms=20_000)
    assert {part.lot for part in moved.reply.funding} == {"gift@eu-west"}
    await cluster.heal("us-east")
    await cluster.converged()
    assert (await ap.conflicts()).conflicts == []
    balance = await ap.balance("acme")
    assert (balance.held, balance.debt) == (81, 0)
    assert sum(lot.remaining for lot in balance.lots) == 10
