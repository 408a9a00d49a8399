"""The operations: every way in which an accepted command can move credit.

An operation is a fact about one tenant, frozen and validated when it is decoded; what it does depends on where it
stands in canonical order, and is worked out by `ledger.account`. `Compensation` travels in the same log but is not
an operation: it takes no part in the fold (see `conflict.compensate`), so it can set off no further conflict.
"""

from typing import Annotated

from msgspec import Meta, Struct

from ledger.amount import Amount, Millis, Priority
from ledger.ids import BOOT_PATTERN, CheckedClaim, CheckedLot

Job = Annotated[str, Meta(min_length=1, max_length=255)]
"""The scheduler's own name for the work behind a reservation: carried, never interpreted."""


class Grant(Struct, frozen=True, gc=False, tag_field="kind", tag="grant", forbid_unknown_fields=True):
    """Credit is given: a new lot, live when ``starts_at <= t < expires_at``."""

    lot: CheckedLot
    amount: Amount
    starts_at: Millis
    expires_at: Millis
    priority: Priority


class Hold(Struct, frozen=True, gc=False, tag_field="kind", tag="hold", forbid_unknown_fields=True):
    """Credit is set aside for a job until it is captured, released, or its lease lapses."""

    claim: CheckedClaim
    amount: Amount
    lease_until: Millis
    job: Job | None


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

    claim: CheckedClaim
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


class Settle(Struct, frozen=True, gc=False, tag_field="kind", tag="settle", forbid_unknown_fields=True):
    """Debt is repaid from credit that has become live."""


Operation = Grant | Hold | Renew | Capture | Release | Lapse | Debit | Refund | Revoke | Expire | Settle


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
