"""Commands: what a client may ask of a tenant's credit, before it is decided.

A command says what was asked, an operation (`ledger.operation`) what was accepted. The fingerprint of a command tells
whether two requests under one idempotency key were the same request, in whichever regions they arrived.
"""

from enum import StrEnum
from hashlib import blake2b

import msgspec
from msgspec import Struct

from ledger.ids import ClaimId, JobId, Key, LotId, TenantId, derived
from ledger.operation import Admission, OnOverspend
from ledger.pricing import Work


class OnShortage(StrEnum):
    """What becomes of a debit that available credit does not cover."""

    REFUSE = "refuse"
    DEBT = "debt"


class GrantCredit(Struct, frozen=True, gc=False, tag="grant"):
    """Give credit that is live from ``starts_at`` (now, if None) until ``expires_at``."""

    amount: int
    expires_at: int
    starts_at: int | None = None
    priority: int = 0
    lot: LotId | None = None
    weights: tuple[tuple[str, int], ...] | None = None
    """Under escrow: how it is split over the regions (None: as configured)."""


class RevokeLot(Struct, frozen=True, gc=False, tag="revoke"):
    """Close a lot."""

    lot: LotId


class Estimate(Struct, frozen=True, gc=False):
    """An amount as the work that it is for: priced from the time of acceptance on."""

    work: Work
    seconds: int


class Reserve(Struct, frozen=True, gc=False, tag="reserve"):
    """Set credit aside for ``lease_ms``."""

    amount: int | Estimate
    lease_ms: int
    reservation: ClaimId | None = None
    job: JobId | None = None


class RenewLease(Struct, frozen=True, gc=False, tag="renew"):
    """Extend a lease to ``lease_ms`` from now."""

    reservation: ClaimId
    lease_ms: int


class CaptureUsage(Struct, frozen=True, gc=False, tag="capture"):
    """Record usage of a reservation at ``at`` (now, if None); ``final`` releases the rest."""

    reservation: ClaimId
    amount: int
    at: int | None = None
    final: bool = False


class ReleaseHold(Struct, frozen=True, gc=False, tag="release"):
    """Give back what a reservation still holds."""

    reservation: ClaimId


class DebitUsage(Struct, frozen=True, gc=False, tag="debit"):
    """Record usage without a reservation at ``at`` (now, if None)."""

    amount: int
    at: int | None = None
    debit: ClaimId | None = None
    on_shortage: OnShortage = OnShortage.REFUSE


class RefundUsage(Struct, frozen=True, gc=False, tag="refund"):
    """Give back part of what a claim used."""

    claim: ClaimId
    amount: int
    at: int | None = None


class TransferCredit(Struct, frozen=True, gc=False, tag="transfer"):
    """Give credit to another tenant, until ``expires_at`` (None: until the first of the lots that pay expires)."""

    to: TenantId
    amount: int
    expires_at: int | None = None
    priority: int = 0


class SetPolicy(Struct, frozen=True, gc=False, tag="policy"):
    """Set the tenant's rules, all of them."""

    on_overspend: OnOverspend = OnOverspend.DEBT
    admission: Admission = Admission.OPTIMISTIC
    max_held: int | None = None
    debt_limit: int | None = None


class ReportHeartbeat(Struct, frozen=True, gc=False, tag="heartbeat"):
    """A job ran at ``at``, or started then; its lease is extended to ``lease_ms`` from then (None: the default)."""

    job: JobId
    at: int | None = None
    reservation: ClaimId | None = None
    lease_ms: int | None = None
    started: bool = False


class ReportUsage(Struct, frozen=True, gc=False, tag="usage"):
    """A job ran from ``start`` (None: when it was reported to have started) until ``end`` (None: now).

    ``cost`` is what the whole of it costs, or what ran. None: nothing is charged by this report, and nothing that is
    reported later counts as charged already; only a ``final`` one may say so.
    """

    job: JobId
    end: int | None = None
    start: int | None = None
    cost: int | Work | None = None
    reservation: ClaimId | None = None
    final: bool = False


Command = (
    GrantCredit
    | RevokeLot
    | Reserve
    | RenewLease
    | CaptureUsage
    | ReleaseHold
    | DebitUsage
    | RefundUsage
    | TransferCredit
    | SetPolicy
    | ReportHeartbeat
    | ReportUsage
)

_encode = msgspec.msgpack.Encoder().encode


def fingerprint(command: Command) -> str:
    """16 hex digits that name the content of a request."""
    return blake2b(_encode(command), digest_size=8).hexdigest()


def derived_id(tenant: TenantId, key: Key) -> str:
    """The id of a lot or claim that the client did not name: the same in every region for the same request."""
    return derived(tenant, key)
