"""An entry as a node holds it: with its place in canonical order and the whole clock that its log implies.

An entry is filed in the book of each tenant that it concerns: once, or, if it is a transfer, once in the giver's and
once in the receiver's. What it is there, and what its origin recorded for that tenant, `Filed` says.
"""

from msgspec import Struct

from ledger.ids import Key, Position, TenantId
from ledger.operation import Acknowledge, Compensation, Operation, Transfer
from ledger.posting import Outcome, Postings
from replication.clock import Dot, VectorClock
from replication.entry import Entry


class Filed(Struct, frozen=True, gc=False):
    """`entry` at its `position`; ``others`` is its vector clock without its own replica, whose count is its ``seq``.

    ``others`` is shared between the consecutive entries of a log that learnt nothing new in between: never change it.
    ``commit`` is the number of the holding node's own commit that has the entry. ``is_receipt``: it stands in the book
    of the tenant that a transfer went to.
    """

    entry: Entry
    position: Position
    others: VectorClock
    commit: int
    is_receipt: bool = False

    @property
    def tenant(self) -> TenantId:
        """Whose book it stands in."""
        content = self.entry.content
        return content.to if self.is_receipt and isinstance(content, Transfer) else self.entry.tenant

    @property
    def operation(self) -> Operation | None:
        """What the entry does to the account; None for what is only about another entry."""
        content = self.entry.content
        if isinstance(content, Compensation | Acknowledge):
            return None
        return content.grant if self.is_receipt and isinstance(content, Transfer) else content

    @property
    def postings(self) -> Postings:
        """What its origin recorded for this tenant."""
        received = self.entry.received
        return received if self.is_receipt and received is not None else self.entry.postings

    @property
    def outcome(self) -> Outcome:
        """What became of it at its origin, for this tenant."""
        return Outcome.APPLIED if self.is_receipt else self.entry.outcome

    @property
    def key(self) -> Key | None:
        """The idempotency key, if any; it is a name in the giver's account only."""
        return None if self.is_receipt else self.entry.key

    @property
    def request(self) -> str | None:
        """The fingerprint of the request, if any."""
        return self.entry.request

    @property
    def dot(self) -> Dot:
        """The entry's name."""
        return Dot(self.entry.replica, self.entry.seq)

    @property
    def clock(self) -> VectorClock:
        """The whole vector clock, own dot included."""
        return {**self.others, self.entry.replica: self.entry.seq}


def legs_of(filed: Filed) -> tuple[Filed, ...]:
    """The entry in each book in which it stands: one, or two if it is a transfer."""
    if filed.entry.received is None:
        return (filed,)
    return filed, Filed(filed.entry, filed.position, filed.others, filed.commit, is_receipt=True)
