"""Every entry that any node ever applied, told by its bytes: what is true of the run, whatever the nodes believe.

Clocks are worked out here from the changes that entries carry, so that they are not the nodes' own bookkeeping.
"""

from collections import defaultdict

from msgspec import Struct

from ledger.ids import Position
from ledger.operation import Acknowledge, Compensation, Operation, Transfer
from ledger.posting import Outcome
from replication.entry import Entry, hash_of, open_sealed

Dot = tuple[str, int]


class Fact(Struct, frozen=True):
    """One entry, with its whole vector clock, as it concerns one tenant: a transfer is a fact about two."""

    entry: Entry
    hash: bytes
    clock: dict[str, int]
    is_receipt: bool = False

    @property
    def dot(self) -> Dot:
        """Its name."""
        return self.entry.replica, self.entry.seq

    @property
    def place(self) -> Position:
        """Its place in canonical order."""
        return self.entry.position

    @property
    def legs(self) -> tuple["Fact", ...]:
        """The entry for each tenant that it concerns."""
        if isinstance(self.entry.content, Transfer):
            return self, Fact(self.entry, self.hash, self.clock, is_receipt=True)
        return (self,)

    @property
    def tenant(self) -> str:
        """Whom it concerns."""
        content = self.entry.content
        return content.to if self.is_receipt and isinstance(content, Transfer) else self.entry.tenant

    @property
    def operation(self) -> Operation:
        """What it is in the account of this tenant."""
        content = self.entry.content
        assert not isinstance(content, Compensation | Acknowledge)
        return content.grant if self.is_receipt and isinstance(content, Transfer) else content

    @property
    def key(self) -> str | None:
        """The idempotency key, in the account of the tenant that asked."""
        return None if self.is_receipt else self.entry.key

    @property
    def postings(self) -> dict[str, int]:
        """What its origin recorded for this tenant."""
        return (self.entry.received or {}) if self.is_receipt else self.entry.postings

    @property
    def outcome(self) -> Outcome:
        """What became of it at its origin, for this tenant."""
        return Outcome.APPLIED if self.is_receipt else self.entry.outcome

    @property
    def is_operation(self) -> bool:
        """Whether it takes part in the fold."""
        return not isinstance(self.entry.content, Compensation | Acknowledge)

    def knew(self, other: "Fact") -> bool:
        """Whether the other one happened before this one."""
        return self.clock.get(other.entry.replica, 0) >= other.entry.seq


class Facts:
    """All entries by dot, and by tenant in the order in which they were first seen."""

    def __init__(self) -> None:
        self.by_dot: dict[Dot, Fact] = {}
        self.by_tenant: defaultdict[str, list[Fact]] = defaultdict(list)

    def learn(self, sealed: bytes) -> Fact:
        """The fact of a sealed entry. A second entry under a known dot, or one that breaks its chain, is an error."""
        entry, digest = open_sealed(sealed)
        dot = entry.replica, entry.seq
        known = self.by_dot.get(dot)
        if known is not None:
            assert known.hash == digest == hash_of(sealed), f"two entries {dot}"
            return known
        clock = {**entry.delta, entry.replica: entry.seq}
        if entry.seq > 1:
            before = self.by_dot.get((entry.replica, entry.seq - 1))
            assert before is not None, f"{dot} was applied, the one before it never was"
            assert entry.prev == before.hash, f"{dot} does not name the hash of the one before it"
            clock = {**before.clock, **clock}
        fact = self.by_dot[dot] = Fact(entry, digest, clock)
        for leg in fact.legs:
            self.by_tenant[leg.tenant].append(leg)
        return fact

    def held_by(self, clock: dict[str, int]) -> list[Fact]:
        """All entries that a clock covers."""
        return [fact for fact in self.by_dot.values() if fact.entry.seq <= clock.get(fact.entry.replica, 0)]

    def covered(self, tenant: str, clock: dict[str, int]) -> list[Fact]:
        """A tenant's entries that a clock covers, in canonical order."""
        facts = [fact for fact in self.by_tenant[tenant] if fact.entry.seq <= clock.get(fact.entry.replica, 0)]
        return sorted(facts, key=lambda fact: fact.place)
