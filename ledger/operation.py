"""The operations: every way in which an accepted command can move credit.

An operation is a fact about one tenant, frozen and validated when it is decoded; what it does depends on where it
stands in canonical order, and is worked out by `ledger.account`. A transfer is a fact about two tenants: in the
giver's account it is a transfer, in the receiver's the grant that `Transfer.grant` says. `Compensation` travels in the
same log but is not an operation: it takes no part in the fold (see `conflict.compensate`), so it can set off no further
conflict.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from ledger.amount import MAX_AMOUNT, Amount, Millis, Priority
from ledger.ids import (
    BOOT_PATTERN,
    CheckedClaim,
    CheckedJob,
    CheckedLot,
    CheckedRegion,
    CheckedTenant,
    ClaimId,
    LotId,
    NewClaim,
    NewLot,
)
from ledger.lot import share_of

AnyAmount = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
MadeName = Annotated[str, Meta(pattern=r"^~[0-9a-f]{24}\Z")]


class OnOverspend(StrEnum):
    """What becomes of a hold that canonical order leaves short of credit."""

    DEBT = "debt"
    """It stands, and the tenant owes what is missing."""
    REVOKE = "revoke"
    """It is void."""


class Admission(StrEnum):
    """What a region may spend."""

    OPTIMISTIC = "optimistic"
    """All that the tenant has, as far as it knows: regions can spend the same credit."""
    ESCROW = "escrow"
    """Its own shares, which no other region can spend."""


class Grant(Struct, frozen=True, gc=False, tag_field="kind", tag="grant", forbid_unknown_fields=True):
    """Credit is given: a new lot, live when ``starts_at <= t < expires_at``; or one for each of its ``shares``."""

    lot: NewLot
    amount: Amount
    starts_at: Millis
    expires_at: Millis
    priority: Priority
    shares: Annotated[tuple[tuple[CheckedRegion, Amount], ...], Meta(max_length=256)] = ()

    def __post_init__(self) -> None:
        if self.shares:
            regions = [region for region, _ in self.shares]
            if len(set(regions)) < len(regions) or sum([amount for _, amount in self.shares]) != self.amount:
                raise ValueError("shares must be of different regions, and the amount together")

    @property
    def lots(self) -> tuple[tuple[LotId, str | None, int], ...]:
        """The lots that it makes: the name, the region whose share it is, the amount."""
        if not self.shares:
            return ((self.lot, None, self.amount),)
        return tuple([(share_of(self.lot, region), region, amount) for region, amount in self.shares])


class Hold(Struct, frozen=True, gc=False, tag_field="kind", tag="hold", forbid_unknown_fields=True):
    """Credit is set aside for a job until it is captured, released, or its lease lapses."""

    claim: NewClaim
    amount: Amount
    lease_until: Millis
    job: CheckedJob | None


class Renew(Struct, frozen=True, gc=False, tag_field="kind", tag="renew", forbid_unknown_fields=True):
    """The lease of a reservation is extended; it never gets shorter."""

    claim: CheckedClaim
    lease_until: Millis


class Capture(Struct, frozen=True, gc=False, tag_field="kind", tag="capture", forbid_unknown_fields=True):
    """Usage of a reservation at the time ``at``; beyond what is held it is an overrun. ``final`` releases the rest."""

    claim: CheckedClaim
    amount: Amount
    at: Millis
    final: bool


class Release(Struct, frozen=True, gc=False, tag_field="kind", tag="release", forbid_unknown_fields=True):
    """What a reservation still holds goes back where it came from."""

    claim: CheckedClaim


class Lapse(Struct, frozen=True, gc=False, tag_field="kind", tag="lapse", forbid_unknown_fields=True):
    """A release by the sweeper of the region that made the hold, if the lease had ended at or before ``at``."""

    claim: CheckedClaim
    at: Millis


class Debit(Struct, frozen=True, gc=False, tag_field="kind", tag="debit", forbid_unknown_fields=True):
    """Usage without a reservation, at the time ``at``."""

    claim: NewClaim
    amount: Amount
    at: Millis


class Refund(Struct, frozen=True, gc=False, tag_field="kind", tag="refund", forbid_unknown_fields=True):
    """Part of what a claim used is given back to the lots that paid for it."""

    claim: CheckedClaim
    amount: Amount
    at: Millis


class Revoke(Struct, frozen=True, gc=False, tag_field="kind", tag="revoke", forbid_unknown_fields=True):
    """A lot is closed by its giver; what remains of it is gone."""

    lot: CheckedLot


class Expire(Struct, frozen=True, gc=False, tag_field="kind", tag="expire", forbid_unknown_fields=True):
    """A lot whose ``expires_at`` has passed is closed, so that the books close."""

    lot: CheckedLot


class Move(Struct, frozen=True, gc=False, tag_field="kind", tag="move", forbid_unknown_fields=True):
    """Of a tenant under escrow: credit of the origin's own ``lot`` becomes another region's share of the same grant."""

    lot: CheckedLot
    to: CheckedRegion
    amount: Amount


class Settle(Struct, frozen=True, gc=False, tag_field="kind", tag="settle", forbid_unknown_fields=True):
    """Debt is repaid from credit that has become live."""


class Policy(Struct, frozen=True, gc=False, tag_field="kind", tag="policy", forbid_unknown_fields=True):
    """The tenant's rules from here on. ``max_held`` and ``debt_limit`` are limits at admission; None: none."""

    on_overspend: OnOverspend = OnOverspend.DEBT
    admission: Admission = Admission.OPTIMISTIC
    max_held: AnyAmount | None = None
    debt_limit: AnyAmount | None = None


class Transfer(Struct, frozen=True, gc=False, tag_field="kind", tag="transfer", forbid_unknown_fields=True):
    """Credit is given to another tenant: a claim of this one, and a lot of that one, both called ``name``.

    Only lots that last until ``expires_at`` pay for it, so the new lot does not outlive what funds it, in whatever
    order operations turn out to stand. What such lots do not cover is owed, and any credit repays what is owed.
    """

    name: MadeName
    to: CheckedTenant
    amount: Amount
    starts_at: Millis
    expires_at: Millis
    priority: Priority

    @property
    def claim(self) -> ClaimId:
        """The claim in the giver's account."""
        return ClaimId(self.name)

    @property
    def grant(self) -> "Grant":
        """What it is in the receiver's account."""
        return Grant(LotId(self.name), self.amount, self.starts_at, self.expires_at, self.priority)


class Heartbeat(Struct, frozen=True, gc=False, tag_field="kind", tag="heartbeat", forbid_unknown_fields=True):
    """A job was running at ``at``, or started then. Its reservation's lease is extended, as by a renewal.

    The reservation is ``claim``, or else the one that was made for the job last.
    """

    job: CheckedJob
    claim: CheckedClaim | None
    at: Millis
    lease_until: Millis
    started: bool


class Usage(Struct, frozen=True, gc=False, tag_field="kind", tag="usage", forbid_unknown_fields=True):
    """A job ran in ``[start, end)``, which costs ``amount``; what the job was charged for already costs nothing.

    It is captured from the reservation ``claim``, or else from the one that was made for the job last; with none it is
    charged without one. ``final``: the job has ended, and what its reservation still holds is released.
    """

    job: CheckedJob
    claim: CheckedClaim | None
    start: Millis
    end: Millis
    amount: AnyAmount
    final: bool


Operation = (
    Grant
    | Hold
    | Renew
    | Capture
    | Release
    | Lapse
    | Debit
    | Refund
    | Revoke
    | Expire
    | Move
    | Settle
    | Policy
    | Transfer
    | Heartbeat
    | Usage
)


class Difference(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """What one earlier entry, named by its dot, lacks to be what canonical order makes of it."""

    replica: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}/" + BOOT_PATTERN[1:])]
    seq: Annotated[int, Meta(ge=1)]
    postings: dict[str, int]


class Compensation(Struct, frozen=True, gc=False, tag_field="kind", tag="compensation", forbid_unknown_fields=True):
    """Differences of operations that the posting region accepted; its postings are their sum."""

    of: Annotated[tuple[Difference, ...], Meta(min_length=1, max_length=1000)]


Content = Operation | Compensation
"""What the body of an entry can be."""
