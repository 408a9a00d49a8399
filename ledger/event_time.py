"""Event order: a tenant's operations in the order in which they happened, whenever they came to be known.

Canonical order says what is in the books; event order says what the balance was at a time, now that late reports are
known. Both fold the same operations with the same code. The sort key is (event time, grants first, canonical order),
and event time stands in the place of ``now``:

    a grant's is its ``starts_at``              so is that of the receiver's side of a transfer
    a debit's, a capture's, a refund's its ``at``
    a ``Usage``'s its ``start``; what a final one releases, it releases at its ``end``
    any other operation's                       when it was accepted

Effects do not precede their causes, whatever they say of their time. What is about a lot happens no earlier than its
grant: a lot revoked before it starts never pays. A capture or usage happens no earlier than the hold that it is about,
a refund no earlier than what its claim had used when it was accepted: else credit would be held, or gone, for ever.

What has been decided is not decided again. Canonical order says which of two operations is the request, which hold a
policy makes void, and which reservation a job's usage is about. Here duplicates take no part, nor do keys; a void hold
is made and released at once, so that what is about it finds it closed. Of a policy only the admission counts: from then
on each region's operations are paid from its shares.
"""

from collections.abc import Iterator
from heapq import merge
from typing import Final, Generic, NamedTuple, TypeVar, assert_never

from msgspec import Struct, structs

from ledger.account import Account
from ledger.cells import Effect
from ledger.ids import ClaimId, JobId, LotId, Position, usage_name
from ledger.operation import (
    Capture,
    Debit,
    Expire,
    Grant,
    Heartbeat,
    Hold,
    Lapse,
    Move,
    OnOverspend,
    Operation,
    Policy,
    Refund,
    Release,
    Renew,
    Revoke,
    Settle,
    Transfer,
    Usage,
)
from ledger.posting import DEBT, HELD_PREFIX, USED
from ledger.rules import Rules
from ledger.timeline import Placed

GRANT: Final = 1
OTHER: Final = 2
"""Of what happens in one millisecond grants come before everything else."""

_SORTED_AT_ONCE: Final = 500
_LAST_COUNT: Final = 0xFFFF

EntryT = TypeVar("EntryT", bound=Placed)


class Dated(NamedTuple, Generic[EntryT]):
    """An entry in event order: when it happened (ms), its rank in that millisecond, its canonical place.

    ``operations`` are what is folded for it.
    """

    at: int
    rank: int
    place: Position
    entry: EntryT
    operations: tuple[Operation, ...]


class Standing(Struct, frozen=True, gc=False):
    """A tenant's figures at one moment; ``available`` is negative when it owes more than it has."""

    available: int
    held: int
    used: int
    debt: int


class EventTimes:
    """When each operation of a tenant happened. Asked of all that take part, in canonical order: causes come first.

    Relations kept: ``_lots`` and ``_claims`` have the event time of whatever granted or made each; ``_used`` the latest
    event time of what each claim used; ``_reserved`` the reservation that was made for each job last.
    """

    def __init__(self) -> None:
        self._lots: dict[LotId, int] = {}
        self._claims: dict[ClaimId, int] = {}
        self._holds: set[ClaimId] = set()
        self._reserved: dict[JobId, ClaimId] = {}
        self._used: dict[ClaimId, int] = {}

    def of(self, operation: Operation, accepted: int) -> int:
        """The event time (ms) of an operation that was accepted at `accepted` (ms)."""
        match operation:
            case Grant():
                self._lots |= dict.fromkeys(
                    [operation.lot, *(lot for lot, _, _ in operation.lots)], operation.starts_at
                )
                return operation.starts_at
            case Hold():
                self._claims[operation.claim] = accepted
                self._holds.add(operation.claim)
                if operation.job is not None:
                    self._reserved[operation.job] = operation.claim
                return accepted
            case Transfer():
                self._claims[operation.claim] = accepted
                return accepted
            case Debit():
                self._claims[operation.claim] = operation.at
                return self._uses(operation.claim, operation.at)
            case Capture():
                return self._uses(operation.claim, operation.at)
            case Usage():
                return self._uses(self.reservation(operation) or usage_name(operation.job), operation.start)
            case Refund():
                return max(operation.at, self._used.get(operation.claim, 0))
            case Revoke() | Expire():
                return max(accepted, self._lots.get(operation.lot, 0))
            case Renew() | Release() | Lapse() | Heartbeat() | Settle() | Move() | Policy():
                return accepted
            case _:
                assert_never(operation)

    def reservation(self, usage: Usage) -> ClaimId | None:
        """The reservation that a report of usage is about: the one it names, or the last that was made for its job."""
        return usage.claim if usage.claim in self._holds else self._reserved.get(usage.job)

    def _uses(self, claim: ClaimId, at: int) -> int:
        at = max(at, self._claims.get(claim, 0))
        self._used[claim] = max(at, self._used.get(claim, 0))
        return at


class EventOrder(Generic[EntryT]):
    """Takes entries in canonical order, and gives them out in event order.

    They are sorted a few at a time as they come, and merged as they are given out, so that no step takes long.
    """

    def __init__(self) -> None:
        self._times = EventTimes()
        self._sorted: list[list[Dated[EntryT]]] = []
        self._latest: list[Dated[EntryT]] = []

    def add(self, entry: EntryT, *, is_void: bool) -> None:
        """The next entry in canonical order that is no duplicate; `is_void`: a hold that canonical order makes void."""
        operation, place = entry.operation, entry.position
        if operation is None:
            return
        if isinstance(operation, Usage):
            operation = structs.replace(operation, claim=self._times.reservation(operation))
        rank = GRANT if isinstance(operation, Grant) else OTHER
        at = self._times.of(operation, place.now)
        if isinstance(operation, Usage) and operation.final and at < operation.end:
            self._put(Dated(at, rank, place, entry, (structs.replace(operation, final=False),)))
            at, operation = operation.end, structs.replace(operation, start=operation.end, amount=0)
        self._put(Dated(at, rank, place, entry, _folded(operation, is_void=is_void)))

    def _put(self, dated: Dated[EntryT]) -> None:
        self._latest.append(dated)
        if len(self._latest) >= _SORTED_AT_ONCE:
            self._sorted.append(sorted(self._latest))
            self._latest = []

    def __iter__(self) -> Iterator[Dated[EntryT]]:
        return merge(*self._sorted, sorted(self._latest))


class EventFold(Generic[EntryT]):
    """An account folded in event order, entry by entry, as far as one asks."""

    def __init__(self, order: EventOrder[EntryT], rules: Rules) -> None:
        self.account = Account(rules)
        self._coming = iter(order)
        self._next = next(self._coming, None)
        self._folded_at = -1
        self._count = 0
        self._held = 0

    @property
    def next_at(self) -> int | None:
        """When (ms) the next entry happened; None after the last."""
        return None if self._next is None else self._next.at

    @property
    def coming(self) -> Operation | None:
        """What the next entry did, as it will be folded; None after the last."""
        return None if self._next is None else self._next.operations[0]

    def standing(self, at: int) -> Standing:
        """The figures at `at` (ms), after what has been folded."""
        totals = self.account.totals
        return Standing(self.account.available(at), self._held, totals[USED], -totals[DEBT])

    def step(self) -> tuple[Dated[EntryT], Effect]:
        """Fold the next entry; its effect is that of its own operation."""
        dated = self._next
        assert dated is not None
        self._next = next(self._coming, None)
        # The counter of a hybrid clock has 16 bits: of more than that in one millisecond the names decide.
        self._count = min(self._count + 1, _LAST_COUNT) if dated.at == self._folded_at else 0
        self._folded_at = dated.at
        place = dated.place._replace(hlc=(dated.at << 16) | self._count)
        effects = [self.account.apply(operation, place, None, None) for operation in dated.operations]
        for effect in effects:
            self._held += sum(
                [amount for account, amount in effect.postings.items() if account.startswith(HELD_PREFIX)]
            )
        return dated, effects[0]

    def before(self, end: int) -> Iterator[None]:
        """Fold what happened before `end` (ms), entry by entry."""
        while self._next is not None and self._next.at < end:
            self.step()
            yield


def _folded(operation: Operation, *, is_void: bool) -> tuple[Operation, ...]:
    if isinstance(operation, Policy):
        return (structs.replace(operation, on_overspend=OnOverspend.DEBT),)
    if is_void and isinstance(operation, Hold):
        return operation, Release(operation.claim)
    return (operation,)
