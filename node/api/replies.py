"""Reply bodies: from an entry alone for a write, from a tenant's state for a read.

A write's reply is a function of its entry, so a retry gets the same one, in whichever region it arrives; only
``region``, which names the region that answers, may differ.
"""

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Final, assert_never

import msgspec

from conflict.detect import Kind
from conflict.report import Party, Report, kind_of, report_id
from creditmesh import wire
from creditmesh.wire import MAX_AMOUNT
from ledger.account import Account
from ledger.claim import Claim, ClaimState, ClaimView, Funding
from ledger.command import GrantCredit, ReleaseHold, ReportUsage
from ledger.event_time import Standing
from ledger.ids import TenantId
from ledger.lot import Lot, LotState, spending_place
from ledger.operation import (
    Acknowledge,
    Capture,
    Compensation,
    Debit,
    Grant,
    Heartbeat,
    Hold,
    Policy,
    Refund,
    Release,
    Renew,
    Revoke,
    Transfer,
    Usage,
)
from ledger.posting import DEBT, REVOKED, USED, Outcome
from ledger.statement import Line
from node.api.facade import ClusterState, Lag, PeerState
from node.finding import Finding, Remedy
from replication.clock import Dot, region_of
from replication.filed import Filed

_STATES: Final = {
    ClaimState.OPEN: wire.ReservationState.OPEN,
    ClaimState.CLOSED: wire.ReservationState.CLOSED,
    ClaimState.LAPSED: wire.ReservationState.LAPSED,
    ClaimState.REVOKED: wire.ReservationState.REVOKED,
}

# -- of writes: from the entry -----------------------------------------------------------------------------------

EntryReply = Callable[[Filed, str], wire.Reply]
"""What to answer to the command behind an entry, given the answering region. Raises `OtherEntry`."""


class OtherEntry(Exception):
    """The entry under the request's key is not what a node makes of such a request: a peer made it up."""


def grant_reply(filed: Filed, region: str) -> wire.GrantReply:
    """The lot that was made."""
    grant = filed.entry.content
    if not isinstance(grant, Grant):
        raise OtherEntry
    return wire.GrantReply(
        lot=grant.lot,
        amount=grant.amount,
        starts_at=grant.starts_at,
        expires_at=grant.expires_at,
        priority=grant.priority,
        shares=dict(grant.shares) or None,
        region=region,
    )


def revoke_reply(filed: Filed, region: str) -> wire.RevokeReply:
    """The lot that was closed."""
    revoke = filed.entry.content
    if not isinstance(revoke, Revoke):
        raise OtherEntry
    return wire.RevokeReply(lot=revoke.lot, revoked=filed.entry.postings.get(REVOKED, 0), region=region)


def reservation_reply(filed: Filed, region: str) -> wire.ReservationReply:
    """The reservation after the operation."""
    entry = filed.entry
    operation, view = entry.content, entry.result
    if not isinstance(operation, Hold | Renew | Capture | Release) or view is None:
        raise OtherEntry
    return wire.ReservationReply(
        reservation=operation.claim,
        tenant=entry.tenant,
        state=_STATES[view.state],
        amount=view.amount,
        held=view.held,
        captured=view.captured,
        lease_until=view.lease_until,
        funding=_funding(view.funding),
        debt=view.debt,
        region=region,
    )


def debit_reply(filed: Filed, region: str) -> wire.DebitReply:
    """The debit."""
    debit, view = filed.entry.content, filed.entry.result
    if not isinstance(debit, Debit) or view is None:
        raise OtherEntry
    return wire.DebitReply(
        debit=debit.claim,
        amount=debit.amount,
        at=debit.at,
        funding=_funding(view.funding),
        debt=view.debt,
        region=region,
    )


def refund_reply(filed: Filed, region: str) -> wire.RefundReply:
    """The refund, and the claim after it."""
    refund, view = filed.entry.content, filed.entry.result
    if not isinstance(refund, Refund) or view is None:
        raise OtherEntry
    return wire.RefundReply(
        claim=refund.claim,
        amount=refund.amount,
        at=refund.at,
        funding=_funding(view.funding),
        debt=view.debt,
        region=region,
    )


def transfer_reply(filed: Filed, region: str) -> wire.TransferReply:
    """The transfer."""
    transfer, view = filed.entry.content, filed.entry.result
    if not isinstance(transfer, Transfer) or view is None:
        raise OtherEntry
    return wire.TransferReply(
        transfer=transfer.name,
        to=transfer.to,
        amount=transfer.amount,
        starts_at=transfer.starts_at,
        expires_at=transfer.expires_at,
        priority=transfer.priority,
        funding=_funding(view.funding),
        debt=view.debt,
        region=region,
    )


def policy_reply(filed: Filed, region: str) -> wire.PolicyReply:
    """The rules that were set."""
    policy = filed.entry.content
    if not isinstance(policy, Policy):
        raise OtherEntry
    return wire.PolicyReply(**policy_fields(policy), since=filed.position.now, region=region)


def policy_fields(policy: Policy) -> dict[str, Any]:
    """What `wire.Policy` says of a tenant's rules."""
    return {
        "on_overspend": wire.OnOverspend(policy.on_overspend.value),
        "admission": wire.Admission(policy.admission.value),
        "max_held": policy.max_held,
        "debt_limit": policy.debt_limit,
    }


def event_result(filed: Filed, event: str, *, replayed: bool) -> wire.EventResult:
    """What became of a usage event."""
    entry = filed.entry
    operation, view = entry.content, entry.result
    if not isinstance(operation, Usage | Heartbeat):
        raise OtherEntry
    return wire.EventResult(
        id=event,
        status=wire.EventStatus.DUPLICATE if replayed else wire.EventStatus.ACCEPTED,
        entry=f"{entry.replica}:{entry.seq}",
        charged=entry.postings.get(USED, 0) if isinstance(operation, Usage) else None,
        debt=view.debt if view is not None else None,
        held=view.held if view is not None else None,
        lease_until=view.lease_until or None if view is not None else None,
        state=_STATES[view.state].value if view is not None else None,
        flags=list(_flags(filed)),
    )


def _flags(filed: Filed) -> Iterator[wire.EventFlag]:
    operation, view, outcome = filed.entry.content, filed.entry.result, filed.entry.outcome
    charged = filed.entry.postings.get(USED, 0)
    if view is None or not view.amount:
        # A claim for which nothing was ever reserved is what usage without a reservation makes.
        yield wire.EventFlag.UNRESERVED
    elif outcome in (Outcome.OVERRUN, Outcome.CLOSED):
        yield wire.EventFlag.ENDED
    elif charged and view.captured > view.amount:
        yield wire.EventFlag.OVERRUN
    if outcome is Outcome.COVERED:
        yield wire.EventFlag.COVERED
    elif isinstance(operation, Usage) and charged < operation.amount:
        yield wire.EventFlag.PARTLY_COVERED


def voided_by(claim: Claim | None) -> str | None:
    """The id of the conflict that made a reservation void, if it is."""
    if claim is None or claim.state is not ClaimState.REVOKED:
        return None
    return report_id(claim.made, Kind.REVOKED)


def _funding(funding: Funding) -> list[wire.FundingPart]:
    return [wire.FundingPart(lot=lot, amount=amount) for lot, amount in funding]


# -- of reads: from the tenant's state ---------------------------------------------------------------------------


def behind(lags: Mapping[str, Lag]) -> dict[str, wire.Behind]:
    """How far the node may be behind each peer."""
    return {
        peer: wire.Behind(entries=_said(lag.entries), heard_ms_ago=lag.heard_ms_ago)
        for peer, lag in sorted(lags.items())
    }


def _said(count: int) -> int:
    """A count as far as every reader can follow: a peer may claim to have more entries than any log can."""
    return min(count, MAX_AMOUNT)


def balance_fields(account: Account, now: int, here: str) -> dict[str, Any]:
    """What `wire.BalanceReply` says of a tenant at `now` (ms) in the region `here`."""
    is_escrowed = account.is_escrowed
    open_lots = [account.lots[place.lot] for place in account.spending_order]
    return {
        "available": account.available(now, here),
        "elsewhere": account.live_credit(now) - account.live_credit(now, here) if is_escrowed else None,
        "held": account.held,
        "used": account.totals[USED],
        "debt": -account.totals[DEBT],
        "lots": [_rest(lot, is_escrowed) for lot in open_lots if lot.remaining and now < lot.expires_at],
    }


def expiring(account: Account, since: int, to: int) -> list[wire.LotBalance]:
    """The lots that have something left and expire in ``[since, to)``, the first to expire first."""
    lots = [account.lots[place.lot] for place in account.spending_order]
    found = [lot for lot in lots if lot.remaining and since <= lot.expires_at < to]
    return [_rest(lot, account.is_escrowed) for lot in sorted(found, key=attrgetter("expires_at"))]


def _rest(lot: Lot, is_escrowed: bool) -> wire.LotBalance:
    return wire.LotBalance(
        lot=lot.id,
        owner=lot.owner if is_escrowed else None,
        remaining=lot.remaining,
        starts_at=lot.starts_at,
        expires_at=lot.expires_at,
        priority=lot.priority,
    )


def all_lots(account: Account) -> list[wire.Lot]:
    """Every lot of a tenant, in spending order."""
    return [_lot(lot, account.is_escrowed) for lot in sorted(account.lots.values(), key=spending_place)]


def _lot(lot: Lot, is_escrowed: bool) -> wire.Lot:
    return wire.Lot(
        lot=lot.id,
        owner=lot.owner if is_escrowed else None,
        amount=lot.amount,
        remaining=lot.remaining,
        starts_at=lot.starts_at,
        expires_at=lot.expires_at,
        priority=lot.priority,
        closed=lot.state is not LotState.OPEN,
    )


def policy_change(filed: Filed, policy: Policy) -> wire.PolicyChange:
    """Rules that were set once."""
    replica, seq = filed.dot
    return wire.PolicyChange(**policy_fields(policy), since=filed.position.now, entry=f"{replica}:{seq}")


def reservation_fields(tenant: TenantId, claim: Claim) -> dict[str, Any]:
    """What `wire.ReservationRecord` says of a reservation."""
    view = claim.view()
    return {
        "reservation": claim.id,
        "tenant": tenant,
        "state": _STATES[view.state],
        "amount": view.amount,
        "held": view.held,
        "captured": view.captured,
        "lease_until": view.lease_until,
        "funding": _funding(view.funding),
        "debt": view.debt,
        "job": claim.job,
        "conflict": voided_by(claim),
    }


def debt_of(tenant: TenantId, account: Account) -> wire.TenantDebt:
    """What a tenant owes, oldest debt first."""
    claims = [account.claims[account.debtors[since]] for since in sorted(account.debtors)]
    return wire.TenantDebt(
        tenant=tenant,
        debt=-account.totals[DEBT],
        claims=[wire.ClaimDebt(claim=claim.id, debt=claim.debt) for claim in claims],
    )


# -- of a tenant by event time -----------------------------------------------------------------------------------

EXPIRY_KIND: Final = "expiry"


def standing(figures: Standing) -> wire.Standing:
    """A tenant's figures at one moment."""
    return wire.Standing(available=figures.available, held=figures.held, used=figures.used, debt=figures.debt)


def statement_line(line: Line[Filed]) -> wire.StatementLine:
    """One line of a statement."""
    filed, after = line.entry, line.after
    return wire.StatementLine(
        at=line.order.at,
        kind=EXPIRY_KIND if filed is None else kind_of(filed),
        entry=None if filed is None else f"{filed.entry.replica}:{filed.entry.seq}",
        claim=line.claim,
        lot=line.lot,
        key=None if filed is None else filed.key,
        outcome=line.outcome,
        amount=line.amount,
        available=after.available,
        held=after.held,
        used=after.used,
        debt=after.debt,
    )


def open_regions(promises: Mapping[str, int]) -> list[wire.OpenRegion]:
    """Regions from which something may still come, each with what it has promised (0: nothing)."""
    return [
        wire.OpenRegion(region=region, promise=reading(promise) if promise else None)
        for region, promise in promises.items()
    ]


# -- the log -----------------------------------------------------------------------------------------------------


def exported(filed: Filed, digest: bytes) -> wire.ExportedEntry:
    """An entry as the audit trail shows it; `digest` is its hash."""
    entry = filed.entry
    body: dict[str, Any] = msgspec.to_builtins(entry.content)
    del body["kind"]
    return wire.ExportedEntry(
        replica=entry.replica,
        seq=entry.seq,
        hlc=reading(entry.hlc),
        clock=filed.clock,
        tenant=entry.tenant,
        kind=kind_of(filed),
        key=entry.key,
        request=entry.request,
        body=body,
        postings=entry.postings,
        outcome=entry.outcome,
        result=None if entry.result is None else _result(entry.result),
        received=entry.received,
        prev=entry.prev.hex(),
        hash=digest.hex(),
    )


def _result(view: ClaimView) -> dict[str, Any]:
    return dict(zip(view.__struct_fields__, msgspec.to_builtins(view), strict=True))


def reading(hlc: int) -> wire.Hlc:
    """A hybrid clock reading as milliseconds and counter."""
    return hlc >> 16, hlc & 0xFFFF


# -- the cluster -------------------------------------------------------------------------------------------------


def conflict(report: Report) -> wire.Conflict:
    """A report, as every region shows it."""
    return wire.Conflict(
        id=report.id,
        kind=wire.ConflictKind(report.kind.value),
        state=wire.ConflictState(report.state.value),
        tenant=report.tenant,
        loser=_contender(report.loser),
        canonical_outcome=report.canonical_outcome,
        rivals=[_contender(rival) for rival in report.rivals],
        rival_count=report.rival_count,
        lots=[wire.LotDifference(lot=lot.lot, recorded=lot.recorded, canonical=lot.canonical) for lot in report.lots],
        amount=report.amount,
        debt=report.debt,
        compensations=[
            wire.CompensatingEntry(
                replica=amends.dot.replica,
                seq=amends.dot.seq,
                hlc=reading(amends.position.hlc),
                postings=amends.postings,
            )
            for amends in report.compensations
        ],
        detected_at=report.detected_at,
        acknowledged=[
            _acknowledgement(said.by, said.note, said.position.now, said.dot) for said in report.acknowledged
        ],
    )


def acknowledge_reply(filed: Filed, conflict: str, region: str) -> wire.AcknowledgeReply:
    """What to answer to the acknowledgement of a conflict."""
    content = filed.entry.content
    assert isinstance(content, Acknowledge)
    return wire.AcknowledgeReply(
        region=region,
        conflict=conflict,
        tenant=filed.tenant,
        acknowledgement=_acknowledgement(content.by, content.note, filed.position.now, filed.dot),
        again=content.again,
    )


def _acknowledgement(by: str, note: str | None, at: int, dot: Dot) -> wire.Acknowledgement:
    return wire.Acknowledgement(
        by=by, note=note, at=at, region=region_of(dot.replica), entry=f"{dot.replica}:{dot.seq}"
    )


def _contender(party: Party) -> wire.Contender:
    return wire.Contender(
        replica=party.replica,
        seq=party.seq,
        region=party.region,
        hlc=reading(party.hlc),
        clock=party.clock,
        kind=party.kind,
        key=party.key,
        claim=party.claim,
        amount=party.amount,
        outcome=party.outcome,
    )


def finding(found: Finding) -> wire.Finding:
    """A finding, and what would settle it."""
    return wire.Finding(
        id=found.id,
        kind=wire.FindingKind(found.kind.value),
        tenant=found.tenant,
        subject=found.subject,
        since=found.since,
        detail=found.detail,
        entries=[f"{dot.replica}:{dot.seq}" for dot in found.entries],
        operation=None if found.remedy is None else _operation(found.remedy),
        why_not=found.why_not,
        region=found.region,
    )


def _operation(remedy: Remedy) -> wire.FindingOperation:
    """An operation by the names that requests have for it."""
    kind, body = _kind_and_body(remedy)
    return wire.FindingOperation(kind=kind, body={name: value for name, value in body.items() if value is not None})


def _kind_and_body(remedy: Remedy) -> tuple[str, dict[str, Any]]:
    match remedy:
        case ReleaseHold():
            return "release", {"reservation": remedy.reservation}
        case GrantCredit():
            weights = {} if remedy.weights is None else {"weights": dict(remedy.weights)}
            return "grant", {"amount": remedy.amount, "expires_at": remedy.expires_at, "lot": remedy.lot, **weights}
        case ReportUsage():
            body = {name: getattr(remedy, name) for name in ("job", "start", "end", "reservation", "final")}
            return "usage", {**body, "amount": remedy.cost}
        case Compensation():
            return "compensation", {"of": msgspec.to_builtins(remedy.of)}
        case _:
            assert_never(remedy)


def cluster_fields(state: ClusterState) -> dict[str, Any]:
    """What `wire.ClusterReply` says of the cluster."""
    return {
        "clock": dict(sorted(state.clock.items())),
        "digest": state.digest,
        "unsettled_tenants": state.unsettled_tenants,
        "findings": None if state.findings is None else dict(state.findings),
        "regions": [_link(peer) for peer in state.peers],
        "frontier": wire.Frontier(
            hlc=None if state.frontier is None else reading(state.frontier), held_back_by=state.held_back_by
        ),
        "alarms": [
            wire.Alarm(
                kind=alarm.kind.value,
                subject=alarm.subject,
                detail=alarm.detail,
                raised_at=alarm.raised_at,
                count=alarm.count,
            )
            for alarm in state.alarms
        ],
    }


def _link(peer: PeerState) -> wire.RegionLink:
    return wire.RegionLink(
        region=peer.region,
        linked=peer.linked,
        cut=peer.cut,
        heard_ms_ago=peer.heard_ms_ago,
        missing_here=_said(peer.missing_here),
        missing_there=_said(peer.missing_there),
        promise=None if peer.promise is None else reading(peer.promise),
    )
