"""Admission: whether a command is accepted here and now, and as which operation.

A node judges a command against its own state of the tenant. What it refuses leaves nothing behind: no entry, no key;
the same request may be asked again and is judged afresh. Usage that has happened is never refused for lack of credit:
captures always stand, and a debit stands when its client says so (``on_shortage = debt``).
"""

from typing import assert_never

from ledger.account import Account
from ledger.amount import MAX_OPEN_LOTS, MAX_TOTAL
from ledger.claim import Claim, ClaimState
from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    Estimate,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    ReportHeartbeat,
    ReportUsage,
    Reserve,
    RevokeLot,
    SetPolicy,
    TransferCredit,
    derived_id,
)
from ledger.ids import MAX_NAME, ClaimId, Key, LotId, TenantId, transfer_name
from ledger.lot import LotState, share_of
from ledger.operation import (
    Admission,
    Capture,
    Debit,
    Grant,
    Hold,
    OnOverspend,
    Operation,
    Policy,
    Refund,
    Release,
    Renew,
    Revoke,
    Transfer,
)
from ledger.posting import ISSUED, TRANSFERRED
from ledger.pricing import NoPrice
from ledger.refusal import (
    Limits,
    Reason,
    Refusal,
    Terms,
    before_the_tenant,
    event_time,
    invalid,
    not_found,
    too_much_used,
    unpriced,
)
from ledger.reporting import heartbeat, usage


def admit(
    account: Account, tenant: TenantId, command: Command, key: Key, now: int, terms: Terms
) -> Operation | Refusal:
    """Judge `command` at `now` (ms): the operation to append, or why not. For a transfer: `admit_transfer`."""
    limits = terms.limits
    match command:
        case Reserve():
            return _reserve(account, tenant, command, key, now, terms)
        case CaptureUsage():
            return _capture(account, command, now, limits)
        case RenewLease():
            return _renew(account, command, now, limits)
        case ReleaseHold():
            claim = _reservation(account, command.reservation)
            if isinstance(claim, Refusal):
                return claim
            return _ended(claim) or Release(claim.id)
        case DebitUsage():
            return _debit(account, tenant, command, key, now, terms)
        case GrantCredit():
            return _grant(account, tenant, command, key, now, terms)
        case RefundUsage():
            return _refund(account, command, now, limits)
        case RevokeLot():
            return _revoke(account, command.lot)
        case SetPolicy():
            return _policy(command)
        case ReportHeartbeat():
            return heartbeat(account, command, now, limits)
        case ReportUsage():
            return usage(account, command, now, terms)
        case TransferCredit():
            raise AssertionError("a transfer concerns two accounts")
        case _:
            assert_never(command)


def admit_transfer(
    giver: Account, receiver: Account, tenant: TenantId, command: TransferCredit, key: Key, now: int, here: str
) -> Transfer | Refusal:
    """Judge a transfer at `now` (ms) in the region `here` by both accounts; `tenant` is the giver."""
    if command.expires_at is not None and command.expires_at <= now:
        return invalid("expires_at", "must be in the future")
    left, owed = _left_to_give(giver, now, here)
    expires_at = _first_end(left, command.amount, now) if command.expires_at is None else command.expires_at
    available = sum([part for end, part in left if end >= expires_at]) - owed
    if command.amount > available:
        return _insufficient(giver, command.amount, available, now, here)
    if command.amount + giver.totals[TRANSFERRED] > MAX_TOTAL:
        return invalid("amount", f"would bring what the tenant has transferred above {MAX_TOTAL}")
    name = transfer_name(tenant, command.to, key)
    if giver.claim(ClaimId(name)) is not None or LotId(name) in receiver.lots:
        return _taken("transfer", name, is_derived=True)
    return _one_lot_too_many(receiver, command.amount) or Transfer(
        name, command.to, command.amount, now, expires_at, command.priority
    )


def _left_to_give(account: Account, now: int, here: str) -> tuple[list[tuple[int, int]], int]:
    """When each live lot ends and what it has once debt is repaid, in spending order; and the debt that remains."""
    owed = account.debt(here)
    left: list[tuple[int, int]] = []
    for place in account.spending_order:
        lot = account.lots[place.lot]
        if lot.is_live(now) and (lot.owner == here or not account.is_escrowed):
            repays = min(owed, lot.remaining)
            owed -= repays
            if lot.remaining > repays:
                left.append((lot.expires_at, lot.remaining - repays))
    return left, owed


def _first_end(left: list[tuple[int, int]], amount: int, otherwise: int) -> int:
    """When the first of the lots ends that pay for `amount`; `otherwise` if they cannot."""
    ends: list[int] = []
    for end, part in left:
        ends.append(end)
        amount -= part
        if amount <= 0:
            return min(ends)
    return otherwise


def _policy(command: SetPolicy) -> Policy | Refusal:
    if command.admission is Admission.ESCROW and command.on_overspend is OnOverspend.REVOKE:
        return invalid("on_overspend", "revoke contradicts admission escrow: there regions cannot overspend each other")
    return Policy(command.on_overspend, command.admission, command.max_held, command.debt_limit)


def _revoke(account: Account, name: LotId) -> Revoke | Refusal:
    """A lot, or, by its name, a grant of which regions have shares."""
    lot = account.lots.get(name)
    lots = [lot] if lot is not None else [each for each in account.lots.values() if each.grant == name]
    if not lots:
        return not_found("lot", name)
    if all(each.state is not LotState.OPEN for each in lots):
        return Refusal(Reason.LOT_CLOSED, f"the lot is {lots[0].state} already", {"lot": name})
    return Revoke(name)


def _grant(
    account: Account, tenant: TenantId, command: GrantCredit, key: Key, now: int, terms: Terms
) -> Grant | Refusal:
    starts_at = now if command.starts_at is None else command.starts_at
    latest = terms.limits.max_late_ms
    if starts_at < now - latest:
        return invalid("starts_at", f"lies {now - starts_at} ms in the past; at most {latest} are taken")
    if command.expires_at <= starts_at:
        return invalid("expires_at", "must be after starts_at")
    if command.expires_at <= now:
        return invalid("expires_at", "must be in the future")
    lot = command.lot or LotId(derived_id(tenant, key))
    shares = _shares(account, command, lot, terms)
    if isinstance(shares, Refusal):
        return shares
    grant = Grant(lot, command.amount, starts_at, command.expires_at, command.priority, shares)
    if account.is_granted(grant):
        return _taken("lot", lot, is_derived=command.lot is None)
    return _one_lot_too_many(account, command.amount, len(grant.lots)) or grant


def _shares(account: Account, command: GrantCredit, lot: LotId, terms: Terms) -> tuple[tuple[str, int], ...] | Refusal:
    """How a grant is split: the parts by weight, rounded down, and what is left over one by one in order of weight."""
    if not account.is_escrowed:
        if command.weights is not None:
            return invalid("weights", "are of use only for a tenant under escrow")
        return ()
    known = dict(terms.weights)
    weights = known if command.weights is None else dict(command.weights)
    if not weights.keys() <= known.keys():
        return invalid("weights", f"must be of regions of this cluster: {', '.join(sorted(known))}")
    total = sum(weights.values())
    if not total:
        return invalid("weights", "must not all be 0")
    if len(share_of(lot, max(weights, key=len))) > MAX_NAME:
        return invalid(
            "lot", f"is too long: with a region's name behind it, it must have at most {MAX_NAME} characters"
        )
    heaviest = sorted(weights, key=lambda region: (-weights[region], region))
    parts = {region: command.amount * weights[region] // total for region in heaviest}
    for region in heaviest[: command.amount - sum(parts.values())]:
        parts[region] += 1
    return tuple((region, amount) for region, amount in sorted(parts.items()) if amount)


def _one_lot_too_many(account: Account, amount: int, lots: int = 1) -> Refusal | None:
    if len(account.spending_order) + lots > MAX_OPEN_LOTS:
        return invalid("lot", f"would be one open lot more than the {MAX_OPEN_LOTS} that a tenant may have")
    if amount - account.totals[ISSUED] > MAX_TOTAL:
        return invalid("amount", f"would bring what the tenant was given above {MAX_TOTAL}")
    return None


def _reserve(account: Account, tenant: TenantId, command: Reserve, key: Key, now: int, terms: Terms) -> Hold | Refusal:
    bad_lease = _bad_lease(command.lease_ms, terms.limits)
    if bad_lease is not None:
        return bad_lease
    claim = command.reservation or ClaimId(derived_id(tenant, key))
    if account.claim(claim) is not None:
        return _taken("reservation", claim, is_derived=command.reservation is None)
    amount = amount_to_hold(command.amount, now, terms)
    if isinstance(amount, Refusal):
        return amount
    return refused_hold(account, amount, now, terms.region) or Hold(claim, amount, now + command.lease_ms, command.job)


def amount_to_hold(asked: int | Estimate, now: int, terms: Terms) -> int | Refusal:
    """What is to be held, priced if it was asked for as work."""
    if not isinstance(asked, Estimate):
        return asked
    amount = terms.rates.price(asked.work, now, now + asked.seconds * 1000)
    if isinstance(amount, NoPrice):
        return unpriced(amount)
    if not amount:
        return invalid("estimate", "costs nothing: there is nothing to reserve")
    return amount


def refused_hold(account: Account, amount: int, now: int, here: str) -> Refusal | None:
    """Why `amount` cannot be held at `now` (ms) in the region `here`; None if it can."""
    most = account.policy.max_held
    if most is not None and account.held + amount > most:
        return Refusal(
            Reason.HELD_LIMIT,
            f"{amount} asked, {account.held} held already, and the tenant's policy allows {most}",
            {"requested": amount, "held": account.held, "max_held": most},
        )
    available = account.available(now, here)
    if amount > available:
        return _insufficient(account, amount, available, now, here)
    return None


def _renew(account: Account, command: RenewLease, now: int, limits: Limits) -> Renew | Refusal:
    bad_lease = _bad_lease(command.lease_ms, limits)
    if bad_lease is not None:
        return bad_lease
    claim = _reservation(account, command.reservation)
    if isinstance(claim, Refusal):
        return claim
    return _ended(claim) or Renew(claim.id, now + command.lease_ms)


def _capture(account: Account, command: CaptureUsage, now: int, limits: Limits) -> Capture | Refusal:
    claim = _reservation(account, command.reservation)
    if isinstance(claim, Refusal):
        return claim
    at = event_time(command.at, now, limits)
    if isinstance(at, Refusal):
        return at
    return (
        before_the_tenant(account, at, "at")
        or too_much_used(account, command.amount)
        or Capture(claim.id, command.amount, at, command.final)
    )


def _debit(
    account: Account, tenant: TenantId, command: DebitUsage, key: Key, now: int, terms: Terms
) -> Debit | Refusal:
    here = terms.region
    claim = command.debit or ClaimId(derived_id(tenant, key))
    if account.claim(claim) is not None:
        return _taken("debit", claim, is_derived=command.debit is None)
    at = event_time(command.at, now, terms.limits)
    if isinstance(at, Refusal):
        return at
    too_early = before_the_tenant(account, at, "at")
    if too_early is not None:
        return too_early
    # A late debit may also draw on lots that were live at its own time and are not closed yet.
    available = (
        account.available(now, here) if at == now else account.credit_at_either(at, now, here) - account.debt(here)
    )
    if command.amount > available:
        if command.on_shortage is OnShortage.REFUSE:
            return _insufficient(account, command.amount, available, now, here)
        limit = account.policy.debt_limit
        debt = command.amount - available + account.debt() - account.debt(here)
        if limit is not None and debt > limit:
            return Refusal(
                Reason.DEBT_LIMIT,
                f"{command.amount} asked, {available} available: {debt} would be owed, and the policy allows {limit}",
                {"requested": command.amount, "available": available, "debt_limit": limit},
            )
    return too_much_used(account, command.amount) or Debit(claim, command.amount, at)


def _refund(account: Account, command: RefundUsage, now: int, limits: Limits) -> Refund | Refusal:
    claim = account.claim(command.claim)
    if claim is None:
        return not_found("claim", command.claim)
    if claim.state is ClaimState.TRANSFERRED:
        return invalid("claim", "is a transfer, which cannot be refunded; its receiver can transfer the credit back")
    at = event_time(command.at, now, limits)
    if isinstance(at, Refusal):
        return at
    if command.amount > claim.used_total:
        return invalid("amount", f"must not exceed what the claim has used and not been refunded, {claim.used_total}")
    return before_the_tenant(account, at, "at") or Refund(claim.id, command.amount, at)


def _reservation(account: Account, reservation: ClaimId) -> Claim | Refusal:
    claim = account.claim(reservation)
    if claim is None or not claim.is_reservation:
        return not_found("reservation", reservation)
    return claim


def _ended(claim: Claim) -> Refusal | None:
    if claim.state is ClaimState.OPEN:
        return None
    return Refusal(
        Reason.RESERVATION_ENDED,
        f"the reservation is {claim.state}; reserve anew",
        {"reservation": claim.id, "state": claim.state.value, "captured": claim.used_total},
    )


def _bad_lease(lease_ms: int, limits: Limits) -> Refusal | None:
    if lease_ms > limits.max_lease_ms:
        return invalid("lease_ms", f"must be at most {limits.max_lease_ms}")
    return None


def _insufficient(account: Account, amount: int, available: int, now: int, here: str) -> Refusal:
    starts = [lot.starts_at for lot in account.lots.values() if lot.remaining and lot.starts_at > now]
    elsewhere = account.live_credit(now) - account.live_credit(now, here) if account.is_escrowed else None
    detail = f"{amount} asked, {available} available"
    return Refusal(
        Reason.INSUFFICIENT_CREDIT,
        f"{detail} here, {elsewhere} in the shares of other regions" if elsewhere else detail,
        {
            "requested": amount,
            "available": available,
            "debt": account.debt(),
            "held": account.held,
            "next_start": min(starts, default=None),
            **({"elsewhere": elsewhere} if elsewhere is not None else {}),
        },
    )


def _taken(what: str, name: str, *, is_derived: bool) -> Refusal:
    if is_derived:
        # Its name comes from the key, so the key was used, and has been forgotten since.
        detail = f"the {what} was made long ago, under this key; take a new key"
    else:
        detail = f"the {what} exists already, under another key"
    return Refusal(Reason.ALREADY_EXISTS, detail, {what: name})
