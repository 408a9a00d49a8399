"""What a region does by itself for what it looks after: leases that lapse, lots that repay debt, lots that expire.

It looks after the reservations that it accepted and the lots that it granted, in any of its boots, and after its own
shares of lots. The schedule says when to look; what there is to do is decided on the state at that time.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from ledger.claim import Claim, ClaimState
from ledger.ids import ClaimId, LotId, TenantId
from ledger.lot import Lot, LotState, share_of
from ledger.operation import Expire, Grant, Hold, Lapse, Move, Operation, Renew, Settle
from node.book import LedgerBook
from node.books import Books
from node.counts import Counts
from node.schedule import Due, Schedule
from node.settings import RegionSettings
from node.store.errors import DamagedEntry
from node.store.kv import ROWS_AT_ONCE, Overlay, Table
from node.store.rows import decode_claim, decode_lot, read, tenant_of
from replication.filed import Filed

_DUE_AT_ONCE: Final = 200

Sweep = Callable[[LedgerBook, Operation, int], bool]
"""Posts an operation that nobody asked for, at a time in ms; whether it could."""


class Duties:
    """The schedule of a region, and what is done when the time has come."""

    def __init__(self, settings: RegionSettings, overlay: Overlay, books: Books, counts: Counts, sweep: Sweep) -> None:
        self._here = settings.region
        self._settle_after_ms = settings.settle_after_ms
        self._overlay = overlay
        self._books = books
        self._counts = counts
        self._sweep = sweep
        self._schedule = Schedule()
        self._scans: deque[tuple[Table, bytes]] = deque([(Table.OPEN, b""), (Table.LOTS, b"")])

    def __len__(self) -> int:
        return len(self._schedule)

    def look(self, now: int, stable_ms: int) -> None:
        """Do what is due at `now` (ms), a part at a time. Nothing that happened before `stable_ms` is still to come."""
        if self._scans:
            self._scan(now)
        for due_at, due, tenant, name in self._schedule.take_due(now, _DUE_AT_ONCE):
            try:
                if due is Due.LEASE:
                    self._look_at_lease(tenant, name, now)
                else:
                    self._look_at_lot(due_at, due, tenant, name, now, stable_ms)
            except DamagedEntry:
                # The book cannot be read before the entry is mended.
                self._schedule.add(now + self._settle_after_ms, due, tenant, name)

    def _scan(self, now: int) -> None:
        """Find out, a few rows at a time after a start, what the region's earlier boots left to be swept."""
        table, start = self._scans[0]
        rows = self._overlay.scan(table, start, None, ROWS_AT_ONCE)
        for key, value in rows:
            tenant = TenantId(tenant_of(key))
            if table is Table.OPEN:
                self.watch_claim(tenant, read(decode_claim, table, key, value))
            else:
                self.watch_lot(tenant, read(decode_lot, table, key, value), now)
        self._scans.popleft()
        if rows:
            self._scans.appendleft((table, rows[-1][0] + b"\0"))

    # -- doing ------------------------------------------------------------------------------------------------------
    #
    # One that has ended, or that another region made before this one made one of the same name, is left alone. If only
    # a conflict has made it so, that may come to nothing: then a contest brings it back (`node.compensating`).

    def _look_at_lease(self, tenant: TenantId, name: str, now: int) -> None:
        book = self._books.of(tenant, now)
        claim = book.account.claim(ClaimId(name))
        if claim is None or claim.state is not ClaimState.OPEN or claim.region != self._here:
            # A void one can be had back by credit alone: there is no other contest than its own.
            book.review()
        elif claim.lease_until > now:
            self._schedule.add(claim.lease_until, Due.LEASE, tenant, name)
        elif self._sweep(book, Lapse(claim.id, now), now):
            self._counts.lapsed += 1

    def _look_at_lot(self, due_at: int, due: Due, tenant: TenantId, name: str, now: int, stable_ms: int) -> None:
        book = self._books.of(tenant, now)
        lot = book.account.lots.get(LotId(name))
        if lot is None or lot.state is not LotState.OPEN or _looks_after(lot, due) != self._here:
            book.review()
        elif due is Due.START:
            if lot.remaining and lot.is_live(now) and book.account.debt(self._here):
                self._sweep(book, Settle(), now)
        elif stable_ms >= lot.expires_at:
            self._sweep(book, Expire(lot.id), now)
        else:
            # Usage from before the expiry may still arrive, and this lot may have to pay for it.
            self._schedule.add(max(due_at, now) + self._settle_after_ms, Due.EXPIRY, tenant, name)

    # -- noting when to look ----------------------------------------------------------------------------------------

    def watch(self, book: LedgerBook, filed: Filed) -> None:
        """Note when to look at what an entry made that is this region's to look after."""
        tenant, operation, place = filed.tenant, filed.operation, filed.position
        is_own = place.region == self._here
        if isinstance(operation, Hold | Renew) and is_own:
            self._schedule.add(operation.lease_until, Due.LEASE, tenant, operation.claim)
        elif isinstance(operation, Grant):
            for lot, owner, _ in operation.lots:
                if operation.starts_at > place.now and (owner or place.region) == self._here:
                    self._schedule.add(operation.starts_at, Due.START, tenant, lot)
                if is_own:
                    self._schedule.add(operation.expires_at, Due.EXPIRY, tenant, lot)
        elif isinstance(operation, Move) and is_own:
            moved = book.account.lots.get(operation.lot)
            share = book.account.lots.get(share_of(moved.grant, operation.to)) if moved is not None else None
            if share is not None:
                self.watch_lot(tenant, share, place.now)

    def watch_claim(self, tenant: TenantId, claim: Claim) -> None:
        """Note when to look at a reservation, if it is this region's to look after."""
        if claim.region == self._here and claim.state is ClaimState.OPEN:
            self._schedule.add(claim.lease_until, Due.LEASE, tenant, claim.id)

    def watch_lot(self, tenant: TenantId, lot: Lot, now: int) -> None:
        """Note when to look at a lot, if it is this region's to look after."""
        if lot.state is LotState.OPEN:
            if lot.owner == self._here and (lot.starts_at > now or self._books.owes(tenant)):
                self._schedule.add(lot.starts_at, Due.START, tenant, lot.id)
            if lot.granted.region == self._here:
                self._schedule.add(lot.expires_at, Due.EXPIRY, tenant, lot.id)


def _looks_after(lot: Lot, due: Due) -> str:
    """The region that does what is due for a lot: its owner repays from it, who made it closes it."""
    return lot.owner if due is Due.START else lot.granted.region
