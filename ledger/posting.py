"""Accounts, signs and effects: what an operation did to the books.

A posting is a signed integer on one account; the postings of one operation sum to zero. Per tenant the accounts are

    issued      <= 0   what the platform gave
    lot/<id>    >= 0   what remains of a lot (in canonical order; never below zero there)
    held/<id>   >= 0   what a reservation holds
    used        >= 0   what work has consumed
    debt        <= 0   what the tenant owes
    expired     >= 0   what ran out unspent
    revoked     >= 0   what was taken back by the giver
    transferred >= 0   what was given to other tenants

so a hold of 60 from lot L is ``lot/L -60, held/c +60``, and when L has only 40 left,
``lot/L -40, debt -20, held/c +60``.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

Postings = dict[str, int]
"""Account to signed amount; no zeros. Treated as immutable once it has left the function that built it."""

ISSUED: Final = "issued"
USED: Final = "used"
DEBT: Final = "debt"
EXPIRED: Final = "expired"
REVOKED: Final = "revoked"
TRANSFERRED: Final = "transferred"
TOTALS: Final = (ISSUED, USED, DEBT, EXPIRED, REVOKED, TRANSFERRED)

LOT_PREFIX: Final = "lot/"
HELD_PREFIX: Final = "held/"

NO_POSTINGS: Final[Postings] = {}


class Outcome(StrEnum):
    """What became of an operation at its place in canonical order."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    """Its key, claim or lot was used by an earlier operation: it did nothing."""
    CLOSED = "closed"
    """What it refers to was not open (any more): it did nothing."""
    OVERRUN = "overrun"
    """Usage on a reservation that was not open: all of it was funded anew."""
    LAPSED = "lapsed"
    """A reservation was released because its lease had ended."""
    RENEWED = "renewed"
    """A lapse that found the lease renewed: it did nothing."""
    REVOKED = "revoked"
    """A hold that credit did not cover, under a policy by which it is void."""
    COVERED = "covered"
    """Usage of a job for a time that the job had been charged for already: it cost nothing."""
    EARLY = "early"
    """An expiry before the lot's time: it did nothing."""
    POSTED = "posted"
    """The outcome of what is no operation: a compensation, or the acknowledgement of a conflict."""


def is_account(name: str) -> bool:
    """Whether `name` is an account of a tenant's books."""
    return name in TOTALS or name.startswith((LOT_PREFIX, HELD_PREFIX))


def subtract(left: Mapping[str, int], right: Mapping[str, int]) -> Postings:
    """What must be posted on top of `right` to arrive at `left`."""
    difference = dict(left)
    for account, amount in right.items():
        rest = difference.get(account, 0) - amount
        if rest:
            difference[account] = rest
        else:
            difference.pop(account, None)
    return difference


def add_into(books: Postings, postings: Mapping[str, int]) -> None:
    """Post to `books` in place; accounts that come to zero leave them."""
    for account, amount in postings.items():
        balance = books.get(account, 0) + amount
        if balance:
            books[account] = balance
        else:
            books.pop(account, None)


def total(parts: Iterable[Mapping[str, int]]) -> Postings:
    """The sum of several postings."""
    books: Postings = {}
    for postings in parts:
        add_into(books, postings)
    return books


def balanced(postings: Mapping[str, int]) -> bool:
    """Whether postings sum to zero and hold no zero."""
    values = postings.values()
    return 0 not in values and sum(values) == 0
