"""Admission: whether a command is accepted here and now, and as which operation.

A node judges a command against its own state of the tenant. What it refuses leaves nothing behind: no entry, no key;
the same request may be asked again and is judged afresh. Usage that has happened is never refused for lack of credit:
captures always stand, and a debit stands when its client says so (``on_shortage = debt``).
"""

from enum import StrEnum
from typing import assert_never

from msgspec import Struct

from ledger.account import Account
from ledger.amount import MAX_OPEN_LOTS, MAX_TOTAL
from ledger.claim import Claim, ClaimState
from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    Reserve,
    RevokeLot,
    derived_id,
)
from ledger.ids import ClaimId, Key, LotId, TenantId
from ledger.lot import LotState
from ledger.operation import Capture, Debit, Grant, Hold, Operation, Refund, Release, Renew, Revoke
from ledger.posting import DEBT, ISSUED, USED


class Reason(StrEnum):
    """Why a command was refused."""

    INSUFFICIENT_CREDIT = "insufficient-credit"
    NOT_FOUND = "not-found"
    ALREADY_EXISTS = "already-exists"
    RESERVATION_ENDED = "reservation-ended"
    LOT_CLOSED = "lot-closed"
    IDEMPOTENCY_MISMATCH = "idempotency-mismatch"
    INVALID_REQUEST = "invalid-request"


class Refusal(Struct, frozen=True):
    """A command that was not accepted: the reason, a sentence for people, and fields for programs."""

    reason: Reason
    detail: str
    fields: dict[str, int | str | None] = {}


class Limits(Struct, frozen=True):
    """What a node accepts, from its configuration; times in ms."""

    max_lease_ms: int
    max_ahead_ms: int
    """How far in the future an event time may lie: clocks differ."""


def admit(
    account: Account, tenant: TenantId, command: Command, key: Key, now: int, limits: Limits
) -> Operation | Refusal:
    """Judge `command` at `now` (ms): the operation to append, or why not."""
    match command:
        case Reserve():
            return _reserve(account, tenant, command, key, now, limits)
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
            return _debit(account, tenant, command, key, now, limits)
        case GrantCredit():
            return _grant(account, tenant, command, key, now)
        case RefundUsage():
            return _refund(account, command, now, limits)
        case RevokeLot():
            lot = account.lots.get(command.lot)
            if lot is None:
                return _not_found("lot", command.lot)
            if lot.state is not LotState.OPEN:
                return Refusal(Reason.LOT_CLOSED, f"the lot is {lot.state} already", {"lot": lot.id})
            return Revoke(lot.id)
        case _:
            assert_never(command)


def _grant(account: Account, tenant: TenantId, command: GrantCredit, key: Key, now: int) -> Grant | Refusal:
    starts_at = now if command.starts_at is None else command.starts_at
    if command.expires_at <= starts_at:
        return invalid("expires_at", "must be after starts_at")
    if command.expires_at <= now:
        return invalid("expires_at", "must be in the future")
    lot = command.lot or LotId(derived_id(tenant, key))
    if lot in account.lots:
        return Refusal(Reason.ALREADY_EXISTS, "the lot exists already, under another key", {"lot": lot})
    if len(account.spending_order) >= MAX_OPEN_LOTS:
        return invalid("lot", f"would be one open lot more than the {MAX_OPEN_LOTS} that a tenant may have")
    if command.amount - account.totals[ISSUED] > MAX_TOTAL:
        return invalid("amount", f"would bring what the tenant was given above {MAX_TOTAL}")
    return Grant(lot, command.amount, starts_at, command.expires_at, command.priority)


def _reserve(
    account: Account, tenant: TenantId, command: Reserve, key: Key, now: int, limits: Limits
) -> Hold | Refusal:
    bad_lease = _bad_lease(command.lease_ms, limits)
    if bad_lease is not None:
        return bad_lease
    claim = command.reservation or ClaimId(derived_id(tenant, key))
    if account.claim(claim) is not None:
        return Refusal(
            Reason.ALREADY_EXISTS, "the reservation exists already, under another key", {"reservation": claim}
        )
    available = account.available(now)
    if command.amount > available:
        return _insufficient(account, command.amount, available, now)
    return Hold(claim, command.amount, now + command.lease_ms, command.job)


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
    at = _event_time(command.at, now, limits)
    if isinstance(at, Refusal):
        return at
    return _too_much(account, command.amount) or Capture(claim.id, command.amount, at, command.final)


def _debit(
    account: Account, tenant: TenantId, command: DebitUsage, key: Key, now: int, limits: Limits
) -> Debit | Refusal:
    claim = command.debit or ClaimId(derived_id(tenant, key))
    if account.claim(claim) is not None:
        return Refusal(Reason.ALREADY_EXISTS, "the debit exists already, under another key", {"debit": claim})
    at = _event_time(command.at, now, limits)
    if isinstance(at, Refusal):
        return at
    if command.on_shortage is OnShortage.REFUSE:
        # A late debit may also draw on lots that were live at its own time and are not closed yet.
        available = account.available(now) if at == now else account.credit_at_either(at, now) + account.totals[DEBT]
        if command.amount > available:
            return _insufficient(account, command.amount, available, now)
    return _too_much(account, command.amount) or Debit(claim, command.amount, at)


def _refund(account: Account, command: RefundUsage, now: int, limits: Limits) -> Refund | Refusal:
    claim = account.claim(command.claim)
    if claim is None:
        return _not_found("claim", command.claim)
    at = _event_time(command.at, now, limits)
    if isinstance(at, Refusal):
        return at
    if command.amount > claim.used_total:
        return invalid("amount", f"must not exceed what the claim has used and not been refunded, {claim.used_total}")
    return Refund(claim.id, command.amount, at)


def _reservation(account: Account, reservation: ClaimId) -> Claim | Refusal:
    claim = account.claim(reservation)
    if claim is None or claim.is_debit:
        return _not_found("reservation", reservation)
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


def _event_time(at: int | None, now: int, limits: Limits) -> int | Refusal:
    if at is None:
        return now
    if at > now + limits.max_ahead_ms:
        return invalid("at", f"lies {at - now} ms in the future; at most {limits.max_ahead_ms} are taken")
    return at


def _too_much(account: Account, amount: int) -> Refusal | None:
    if account.totals[USED] + amount > MAX_TOTAL:
        return invalid("amount", f"would bring the tenant's usage above {MAX_TOTAL}")
    return None


def _insufficient(account: Account, amount: int, available: int, now: int) -> Refusal:
    starts = [lot.starts_at for lot in account.lots.values() if lot.remaining and lot.starts_at > now]
    return Refusal(
        Reason.INSUFFICIENT_CREDIT,
        f"{amount} asked, {available} available",
        {
            "requested": amount,
            "available": available,
            "debt": -account.totals[DEBT],
            "held": account.held,
            "next_start": min(starts, default=None),
        },
    )


def _not_found(what: str, name: str) -> Refusal:
    return Refusal(Reason.NOT_FOUND, f"no such {what}", {what: name})


def invalid(field: str, rule: str) -> Refusal:
    """A refusal that names the field at fault and the rule that it breaks."""
    return Refusal(Reason.INVALID_REQUEST, f"{field} {rule}", {"field": field, "rule": rule})
