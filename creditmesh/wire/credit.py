"""A tenant's credit on the wire: lots, balance, reservations, debits, refunds.

Paths are under ``/v1/tenants/{tenant}``. A request that names no time means the time at which it is accepted.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from msgspec import Meta

from creditmesh.wire.field import (
    DAY_MS,
    MAX_AMOUNT,
    Amount,
    Behind,
    ClockToken,
    GpuCount,
    GpuType,
    Id,
    JobName,
    LeaseMillis,
    Millis,
    NewId,
    PageLimit,
    PageReply,
    Priority,
    ReadReply,
    Region,
    Reply,
    Request,
    Tenant,
    WorkClass,
    shape,
)

MAX_SECONDS: Final = 3_660 * DAY_MS // 1000
"""Ten years."""

# --- credit in ---------------------------------------------------------------------------------------------------


class GrantRequest(Request, frozen=True, kw_only=True):
    """``POST grants``: give credit, live when ``starts_at <= t < expires_at``."""

    amount: Amount
    expires_at: Millis
    starts_at: Millis | None = None
    """Null: now."""
    priority: Priority = 0
    lot: NewId | None = None
    """Null: derived from tenant and idempotency key."""
    weights: Annotated[dict[Region, Annotated[int, Meta(ge=0, le=1_000_000)]], Meta(max_length=256)] | None = None
    """Of a tenant under escrow: how it is split into shares of the regions; null: as the cluster is configured."""

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
    shares: dict[str, int] | None
    """Of a tenant under escrow: what each region may spend; the lots are called ``<lot>@<region>``."""
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
    owner: str | None
    """Of a tenant under escrow: the region that may spend it."""
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
    """What live lots still hold, less the debt; may be negative. Of a tenant under escrow: what this region may
    spend."""
    elsewhere: int | None
    """Of a tenant under escrow: what lies in the shares of other regions."""
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


class Estimate(Request, frozen=True, kw_only=True):
    """Work that is to be done, priced by the rate card from now on: GPUs × time × rate × multiplier, rounded up."""

    gpu_type: GpuType
    gpus: GpuCount
    seconds: Annotated[int, Meta(ge=1, le=MAX_SECONDS)]
    priority: WorkClass | None = None
    """The class of work, whose multiplier counts; null: none."""


class AmountOrEstimate(Request, frozen=True, kw_only=True):
    """How much: an amount of credit, or the work that it is for."""

    together: ClassVar = {"anyOf": [shape("estimate", amount="integer"), shape("amount", estimate="object")]}

    amount: Amount | None = None
    estimate: Estimate | None = None

    def __post_init__(self) -> None:
        if self.amount is None and self.estimate is None:
            raise ValueError("amount is required unless there is an estimate")
        if self.amount is not None and self.estimate is not None:
            raise ValueError("estimate must stand in the place of an amount, not beside one")


class ReserveRequest(AmountOrEstimate, frozen=True, kw_only=True):
    """``POST reservations``: set credit aside until it is captured, released, or the lease ends."""

    lease_ms: LeaseMillis
    reservation: NewId | None = None
    """Null: derived from tenant and idempotency key."""
    job: JobName | None = None
    """The scheduler's own name for the work, by which usage events find the reservation."""
    wait_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0
    """Of a tenant under escrow: how long to wait for credit to be moved here from other regions' shares."""


class RenewRequest(Request, frozen=True, kw_only=True):
    """``POST reservations/{id}/renew``: the lease ends ``lease_ms`` from now, or when it did, if that is later."""

    lease_ms: LeaseMillis


class CaptureRequest(Request, frozen=True, kw_only=True):
    """``POST reservations/{id}/capture``: usage. What exceeds the hold is an overrun, and is booked all the same.

    ``final`` also releases the rest. An amount of 0 is allowed with ``final`` only, and is the same as a release.
    """

    together: ClassVar = {
        "anyOf": [
            {"properties": {"amount": {"minimum": 1}}, "required": ["amount"]},
            {"properties": {"final": {"const": True}}, "required": ["final"]},
        ]
    }

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
    conflict: str | None
    """Of one that is revoked: the conflict that says why."""


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
    debit: NewId | None = None
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
    """A reservation, a debit, or what a job used that nothing was reserved for."""
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


# --- to another tenant -------------------------------------------------------------------------------------------


class TransferRequest(Request, frozen=True, kw_only=True):
    """``POST transfers``: give credit to another tenant, who gets a lot. Only lots that last as long pay for it."""

    to: Tenant
    amount: Amount
    expires_at: Millis | None = None
    """When the other tenant's lot expires; null: with the first of the lots that would pay."""
    priority: Priority = 0
    """Of the other tenant's lot."""


class TransferReply(Reply, frozen=True, kw_only=True):
    """201: the transfer, which is the name of a claim here and of a lot there."""

    transfer: str
    to: str
    amount: int
    starts_at: int
    expires_at: int
    priority: int
    funding: list[FundingPart]
    debt: int
    region: str


# --- what it would cost ------------------------------------------------------------------------------------------


class QuoteRequest(AmountOrEstimate, frozen=True, kw_only=True):
    """``POST quotes``: what a reservation would cost, and what would be left. Nothing is held."""


class QuoteReply(ReadReply, frozen=True, kw_only=True):
    """200: what a reservation would come to if it were made now."""

    tenant: str
    amount: int
    available: int
    available_after: int
    held: int
    held_after: int
    accepted: bool
    """Whether the reservation would be accepted."""
    refusal: str | None
    """If not, why: the last part of the problem's type, ``insufficient-credit`` or ``held-limit``."""
