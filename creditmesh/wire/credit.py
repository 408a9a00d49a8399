"""A tenant's credit on the wire: lots, balance, reservations, debits, refunds.

Paths are under ``/v1/tenants/{tenant}``. A request that names no time means the time at which it is accepted.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from creditmesh.wire.field import (
    MAX_AMOUNT,
    Amount,
    Behind,
    ClockToken,
    Id,
    JobName,
    LeaseMillis,
    Millis,
    PageLimit,
    PageReply,
    Priority,
    ReadReply,
    Reply,
    Request,
)

# --- credit in ---------------------------------------------------------------------------------------------------


class GrantRequest(Request, frozen=True, kw_only=True):
    """``POST grants``: give credit, live when ``starts_at <= t < expires_at``."""

    amount: Amount
    expires_at: Millis
    starts_at: Millis | None = None
    """Null: now."""
    priority: Priority = 0
    lot: Id | None = None
    """Null: derived from tenant and idempotency key."""

    def __post_init__(self) -> None:
        if self.starts_at is not None and self.starts_at >= self.expires_at:
            raise ValueError("starts_at must be before expires_at")


class GrantReply(Reply, frozen=True, kw_only=True):
    """201: the lot that the grant made."""

    lot: str
    amount: int
    starts_at: int
    expires_at: int
    priority: int
    region: str


class RevokeRequest(Request, frozen=True, kw_only=True):
    """``POST grants/{lot}/revoke``: close a lot. The body is empty or ``{}``."""


class RevokeReply(Reply, frozen=True, kw_only=True):
    """200: the lot is closed."""

    lot: str
    revoked: int
    """What remained of the lot and is gone."""
    region: str


class LotBalance(Reply, frozen=True, kw_only=True):
    """A lot as the balance shows it."""

    lot: str
    remaining: int
    starts_at: int
    expires_at: int
    priority: int


class Lot(LotBalance, frozen=True, kw_only=True):
    """A lot with its origin and end."""

    amount: int
    """What was granted."""
    closed: bool
    """Revoked, or expired for good: it neither pays nor takes anything back."""


class LotsReply(ReadReply, frozen=True, kw_only=True):
    """``GET lots``: all lots of the tenant, in spending order."""

    tenant: str
    lots: list[Lot]


class BalanceReply(ReadReply, frozen=True, kw_only=True):
    """``GET balance``: the tenant's credit now, as in the books, or at a time, by event time."""

    tenant: str
    at: int | None = None
    """The time that was asked for; null: now."""
    available: int
    """What live lots still hold, less the debt. May be negative."""
    held: int
    used: int
    debt: int
    """What the tenant owes, as a number of at least 0."""
    lots: list[LotBalance]
    """The lots of which anything remains, live or not yet, in spending order."""


# --- reservations ------------------------------------------------------------------------------------------------


class ReservationState(StrEnum):
    """Where a reservation is in its life."""

    OPEN = "open"
    CLOSED = "closed"
    LAPSED = "lapsed"
    REVOKED = "revoked"


class ReserveRequest(Request, frozen=True, kw_only=True):
    """``POST reservations``: set credit aside until it is captured, released, or the lease ends."""

    amount: Amount
    lease_ms: LeaseMillis
    reservation: Id | None = None
    """Null: derived from tenant and idempotency key."""
    job: JobName | None = None
    """The scheduler's own name for the work: carried, never interpreted."""


class RenewRequest(Request, frozen=True, kw_only=True):
    """``POST reservations/{id}/renew``: the lease ends ``lease_ms`` from now, or when it did, if that is later."""

    lease_ms: LeaseMillis


class CaptureRequest(Request, frozen=True, kw_only=True):
    """``POST reservations/{id}/capture``: usage. What exceeds the hold is an overrun, and is booked all the same.

    ``final`` also releases the rest. An amount of 0 is allowed with ``final`` only, and is the same as a release.
    """

    amount: Annotated[int, Meta(ge=0, le=MAX_AMOUNT)] = 0
    at: Millis | None = None
    """When the credit was used; null: now."""
    final: bool = False

    def __post_init__(self) -> None:
        if self.amount == 0 and not self.final:
            raise ValueError("amount must be at least 1 unless the capture is final")


class ReleaseRequest(Request, frozen=True, kw_only=True):
    """``POST reservations/{id}/release``: give back what is still held. The body is empty or ``{}``."""


class FundingPart(Reply, frozen=True, kw_only=True):
    """How much of a claim one lot pays for."""

    lot: str
    amount: int


class Reservation(Reply, frozen=True, kw_only=True):
    """A reservation after the operation that the reply is about."""

    reservation: str
    tenant: str
    state: ReservationState
    amount: int
    """What was reserved at first."""
    held: int
    captured: int
    lease_until: int
    funding: list[FundingPart]
    debt: int
    """The part that no lot covers: 0 unless regions spent the same credit, or usage overran the hold."""


class ReservationReply(Reservation, frozen=True, kw_only=True):
    """201 (reserve) or 200 (renew, capture, release)."""

    region: str


class ReservationRecord(Reservation, frozen=True, kw_only=True):
    """A reservation as it stands."""

    job: str | None


class ReservationView(ReservationRecord, frozen=True, kw_only=True):
    """``GET reservations/{id}``: with what every read says of itself (see `ReadReply`)."""

    region: str
    as_of: ClockToken
    behind: dict[str, Behind]


class ReservationsQuery(Request, frozen=True, kw_only=True):
    """``GET reservations``."""

    state: ReservationState | None = None
    after: Id | None = None
    limit: PageLimit = 100


class ReservationsReply(PageReply, frozen=True, kw_only=True):
    """Reservations of a tenant, by id. A page can be short, or empty, and say that there is more."""

    reservations: list[ReservationRecord]


# --- usage without a reservation, and credit back ----------------------------------------------------------------


class OnShortage(StrEnum):
    """What becomes of a debit of more than is available."""

    REFUSE = "refuse"
    DEBT = "debt"


class DebitRequest(Request, frozen=True, kw_only=True):
    """``POST debits``: usage without a reservation."""

    amount: Amount
    at: Millis | None = None
    debit: Id | None = None
    """Null: derived from tenant and idempotency key."""
    on_shortage: OnShortage = OnShortage.REFUSE


class DebitReply(Reply, frozen=True, kw_only=True):
    """201: the debit."""

    debit: str
    amount: int
    at: int
    funding: list[FundingPart]
    debt: int
    region: str


class RefundRequest(Request, frozen=True, kw_only=True):
    """``POST refunds``: part of what a reservation or debit used goes back to the lots that paid for it."""

    claim: Id
    """A reservation or a debit."""
    amount: Amount
    at: Millis | None = None


class RefundReply(Reply, frozen=True, kw_only=True):
    """201: the refund; funding and debt are the claim's after it."""

    claim: str
    amount: int
    at: int
    funding: list[FundingPart]
    debt: int
    region: str
