"""Claims: one spending of credit each, and which lots pay for how much of it.

A claim's funding has two sides, what is held and what has been used, each a row of (lot, amount) in the order in
which the lots were taken, and behind it the debt: the part that no lot covers yet. Transitions:

    hold     -> open --capture final, release--> closed
                     --lapse-------------------> lapsed
             -> revoked (canonical order leaves it short, and the tenant's policy makes it void)
    debit    -> closed
    transfer -> transferred

Usage on a claim that is not open is an overrun: it is funded anew and joins the used side. What a transfer has used is
what another tenant has got.
"""

from enum import StrEnum

from msgspec import Struct

from ledger.ids import ClaimId, JobId, LotId, Position, usage_name

Funding = tuple[tuple[LotId, int], ...]
"""Which lots pay how much, in the order in which they were taken."""


class ClaimState(StrEnum):
    """Whether a reservation still holds credit."""

    OPEN = "open"
    CLOSED = "closed"
    LAPSED = "lapsed"
    REVOKED = "revoked"
    TRANSFERRED = "transferred"


class ClaimView(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A claim after an operation, as the entry records it, so that a retry's reply is a function of the entry."""

    state: ClaimState
    amount: int
    held: int
    captured: int
    lease_until: int
    funding: Funding
    debt: int


class Claim(Struct, frozen=True, gc=False, array_like=True):
    """A hold, a debit or a transfer as it stands; every change makes a new one.

    ``made`` is the place of the operation that made it. ``owes_since`` is the place of the operation that left it
    short, while any of it is still owed: debt is repaid in that order.
    """

    id: ClaimId
    state: ClaimState
    amount: int
    made: Position
    lease_until: int
    held: Funding
    held_debt: int
    used: Funding
    used_debt: int
    owes_since: Position | None
    job: JobId | None

    @property
    def region(self) -> str:
        """Where it was made."""
        return self.made.region

    @property
    def debt(self) -> int:
        """What no lot covers, of both sides."""
        return self.held_debt + self.used_debt

    @property
    def is_unreserved_usage(self) -> bool:
        """Whether it is what a job used that nothing was reserved for."""
        return self.job is not None and self.id == usage_name(self.job)

    @property
    def is_reservation(self) -> bool:
        """Whether credit was set aside under a lease, and not used or given away at once."""
        return self.lease_until > 0

    @property
    def is_ended(self) -> bool:
        """Whether nothing but a refund or late usage can touch the claim again."""
        return self.state is not ClaimState.OPEN and not self.held_debt and not self.used_debt

    @property
    def held_total(self) -> int:
        """What the account ``held/<id>`` shows."""
        return sum_of(self.held) + self.held_debt

    @property
    def used_total(self) -> int:
        """What was captured or debited and not refunded."""
        return sum_of(self.used) + self.used_debt

    def view(self) -> ClaimView:
        """The claim as an entry records it and as replies show it."""
        funding = self.held if not self.used else self.used if not self.held else merge(self.held, self.used)
        return ClaimView(
            self.state, self.amount, self.held_total, self.used_total, self.lease_until, funding, self.debt
        )


def sum_of(funding: Funding) -> int:
    """What the lots of `funding` pay together."""
    if len(funding) == 1:
        return funding[0][1]
    return sum([amount for _, amount in funding])


def merge(first: Funding, then: Funding) -> Funding:
    """Two fundings as one: a lot stands where it was first taken, with all that it pays."""
    if not first:
        return then
    together = dict(first)
    for lot, amount in then:
        together[lot] = together.get(lot, 0) + amount
    return tuple(together.items())


def split(funding: Funding, amount: int) -> tuple[Funding, Funding, int]:
    """Take `amount` from the front of `funding`: (what was taken, what is left, how much was not there)."""
    taken: list[tuple[LotId, int]] = []
    for index, (lot, part) in enumerate(funding):
        if amount < part:
            if amount:
                taken.append((lot, amount))
            return tuple(taken), ((lot, part - amount), *funding[index + 1 :]), 0
        taken.append((lot, part))
        amount -= part
    return funding, (), amount
