"""An entry as a node holds it: with its place in canonical order and the whole clock that its log implies."""

from msgspec import Struct

from ledger.ids import Key, Position
from ledger.operation import Compensation, Operation
from replication.clock import Dot, VectorClock
from replication.entry import Entry


class Filed(Struct, frozen=True, gc=False):
    """`entry` at its `position`; ``others`` is its vector clock without its own replica, whose count is its ``seq``.

    ``others`` is shared between the consecutive entries of a log that learnt nothing new in between: never change it.
    ``commit`` is the number of the holding node's own commit that has the entry.
    """

    entry: Entry
    position: Position
    others: VectorClock
    commit: int

    @property
    def operation(self) -> Operation | None:
        """What the entry does to the account; None for a compensation."""
        content = self.entry.content
        return None if isinstance(content, Compensation) else content

    @property
    def key(self) -> Key | None:
        """The idempotency key, if any."""
        return self.entry.key

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

    def knew(self, replica: str, seq: int) -> bool:
        """Whether the entry with this dot happened before this one, or is this one."""
        entry = self.entry
        return seq <= (entry.seq if replica == entry.replica else self.others.get(replica, 0))
