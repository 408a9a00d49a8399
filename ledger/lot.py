"""Lots: credit that was given, and the order in which lots pay.

First expiring, first out: of the lots that are live at the time of the spending, the one with the smallest
(priority, expires_at, canonical position of its grant, id) pays first. For a tenant under escrow a lot pays only for
what its own region accepts: a grant is split into shares, one lot for each region.
"""

from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from ledger.ids import LotId, Position


class LotState(StrEnum):
    """Whether a lot can still pay."""

    OPEN = "open"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Lot(Struct, frozen=True, gc=False, array_like=True):
    """One lot as it stands; every change makes a new one, so that an old one can be put back."""

    id: LotId
    amount: int
    remaining: int
    starts_at: int
    expires_at: int
    priority: int
    granted: Position
    state: LotState = LotState.OPEN
    region: str | None = None
    """Whose share of a grant it is; None if it is all of it."""

    @property
    def owner(self) -> str:
        """The region that may spend it, for a tenant under escrow."""
        return self.region or self.granted.region

    @property
    def grant(self) -> LotId:
        """The grant that it is a share of, or its own name."""
        return self.id if self.region is None else LotId(self.id.removesuffix(f"@{self.region}"))

    def is_live(self, at: int) -> bool:
        """Whether the lot may pay at `at` (ms since the epoch)."""
        return self.state is LotState.OPEN and self.starts_at <= at < self.expires_at

    def with_remaining(self, remaining: int) -> "Lot":
        """The lot with another rest."""
        return Lot(
            self.id, self.amount, remaining, self.starts_at, self.expires_at, self.priority, self.granted, self.state,
            self.region,
        )  # fmt: skip

    def given(self, more: int) -> "Lot":
        """The lot with so much more given to it, or, if that is negative, taken away again; none of it spent."""
        return Lot(
            self.id, self.amount + more, self.remaining + more, self.starts_at, self.expires_at, self.priority,
            self.granted, self.state, self.region,
        )  # fmt: skip

    def closed(self, state: LotState) -> "Lot":
        """The lot with nothing left, never to pay again."""
        return Lot(
            self.id, self.amount, 0, self.starts_at, self.expires_at, self.priority, self.granted, state, self.region
        )


def share_of(grant: LotId, region: str) -> LotId:
    """The lot that is a region's share of a grant."""
    return LotId(f"{grant}@{region}")


class SpendingPlace(NamedTuple):
    """A lot's place in the spending order; it does not change while the lot is open."""

    priority: int
    expires_at: int
    granted: Position
    lot: LotId


def spending_place(lot: Lot) -> SpendingPlace:
    """Where `lot` stands in the spending order."""
    return SpendingPlace(lot.priority, lot.expires_at, lot.granted, lot.id)
