"""Statements: what changed a tenant's figures in a period, line by line, by event time.

A period is half-open, ``[since, to)``. The opening figures are those after everything that happened before `since`, the
closing ones those after everything before `to`, and opening available + the lines' amounts = closing available.

Credit also goes without an operation: a lot that expires takes with it what remains. That has a line of its own, at the
lot's ``expires_at``, before whatever else happens in that millisecond; the shares of one grant expire as one. What
changes none of the figures has no line: renewals, heartbeats, settlements that find no debt, moves between regions, and
the closing of a lot that had expired before.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Final, Generic, NamedTuple

from msgspec import Struct, structs

from ledger.cells import Effect
from ledger.event_time import Dated, EntryT, EventFold, Standing
from ledger.ids import ClaimId, JobId, LotId, Position
from ledger.lot import Lot, LotState, share_of
from ledger.operation import Expire, Grant, Move, Operation, Revoke, Usage
from ledger.posting import Outcome

EXPIRY: Final = 0
"""The rank of a lot's expiry in its millisecond: before that of everything else."""

_Expiry = tuple[int, Position, LotId]
"""When a lot expires (ms), what made it, its name."""


class LineOrder(NamedTuple):
    """Where a line stands: its time (ms), its rank in that millisecond, the place of its entry, or of its lot's."""

    at: int
    rank: int
    place: Position


class Line(Struct, Generic[EntryT], frozen=True, gc=False):
    """One change of the figures. ``entry`` and ``outcome`` are None for the expiry of a lot."""

    order: LineOrder
    entry: EntryT | None
    claim: ClaimId | None
    lot: LotId | None
    job: JobId | None
    """Whose usage it is, or for whom credit was reserved."""
    is_unreserved: bool
    """Whether nothing was reserved for that usage."""
    outcome: Outcome | None
    amount: int
    """By how much it changed what is available."""
    after: Standing


class Statement(Generic[EntryT]):
    """A period of one tenant, made from a fold that has not begun.

    ``opening`` is right when `begin` has been taken to its end, ``closing`` when `lines` has.
    """

    def __init__(self, fold: EventFold[EntryT], since: int, to: int) -> None:
        self._fold = fold
        self._since = since
        self._to = to
        self._expiries: list[_Expiry] = []
        self.opening = self.closing = fold.standing(since - 1)

    def begin(self) -> Iterator[None]:
        """Fold what happened before the period, step by step."""
        yield from self._fold.before(self._since)
        self.opening = self.closing = self._fold.standing(self._since - 1)
        account = self._fold.account
        open_lots = [account.lots[place.lot] for place in account.spending_order]
        self._expiries = [_expiry(lot) for lot in open_lots if lot.expires_at >= self._since]
        heapify(self._expiries)

    def lines(self) -> Iterator[Line[EntryT] | None]:
        """The lines in their order, step by step; None for a step that has none."""
        while (at := self._fold.next_at) is not None and at < self._to:
            yield from self._expired(at)
            yield self._line(*self._fold.step())
        yield from self._expired(self._to - 1)

    def _line(self, dated: Dated[EntryT], effect: Effect) -> Line[EntryT] | None:
        account, operation = self._fold.account, dated.operations[0]
        lot = operation.lot if isinstance(operation, Grant | Revoke | Expire) else None
        if effect.outcome is Outcome.APPLIED:
            for opened in self._opened(dated, operation):
                heappush(self._expiries, opened)
        before, self.closing = self.closing, self._fold.standing(dated.at)
        if self.closing == before:
            return None
        order = LineOrder(dated.at, dated.rank, dated.place)
        amount = self.closing.available - before.available
        name = account.concerned(operation)
        claim = account.claim(name) if name is not None else None
        job = operation.job if isinstance(operation, Usage) else claim.job if claim is not None else None
        is_unreserved = claim is not None and claim.is_unreserved_usage
        return Line(order, dated.entry, name, lot, job, is_unreserved, effect.outcome, amount, self.closing)

    def _opened(self, dated: Dated[EntryT], operation: Operation) -> list[_Expiry]:
        """When the lots that an operation, just folded, has made expire."""
        lots = self._fold.account.lots
        if isinstance(operation, Grant):
            return [_expiry(lots[name]) for name, _, _ in operation.lots]
        if isinstance(operation, Move):
            target = _expiry(lots[share_of(lots[operation.lot].grant, operation.to)])
            return [target] if target[1] == _timeless(dated.place) else []
        return []

    def _expired(self, until: int) -> Iterator[Line[EntryT]]:
        """The lots that expire up to `until` (ms) with something left."""
        lots = self._fold.account.lots
        while self._expiries and self._expiries[0][0] <= until:
            at, granted, _ = self._expiries[0]
            together = []
            while self._expiries and self._expiries[0][:2] == (at, granted):
                together.append(lots[heappop(self._expiries)[2]])
            rest = sum([lot.remaining for lot in together if lot.state is LotState.OPEN and lot.starts_at < at])
            if rest:
                self.closing = structs.replace(self.closing, available=self.closing.available - rest)
                name = together[0].id if len(together) == 1 else together[0].grant
                yield Line(LineOrder(at, EXPIRY, granted), None, None, name, None, False, None, -rest, self.closing)


def _expiry(lot: Lot) -> _Expiry:
    return lot.expires_at, _timeless(lot.granted), lot.id


def _timeless(place: Position) -> Position:
    """An entry's place without its time, which in event order changes with what comes in."""
    return place._replace(hlc=0)
