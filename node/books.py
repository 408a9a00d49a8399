"""The books of all tenants: those touched lately are in memory, and any other is read back from its rows."""

from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import merge
from itertools import groupby
from operator import attrgetter
from typing import Final

from ledger.ids import TenantId
from ledger.rules import Rules
from node.book import LedgerBook
from node.changes import Changes
from node.past import stored_debt
from node.store.journal import Journal
from node.store.kv import Overlay, Table
from node.store.rows import after_prefix, decode_state, read, tenant_key, tenant_of
from node.sums import Sums
from replication.clock import VectorClock

_FORGET_EVERY_MS: Final = 1_000


class Books:
    """Every tenant's book, and what all of them come to together.

    ``clock`` is the region's, as it goes on.
    """

    def __init__(self, rules: Rules, overlay: Overlay, journal: Journal, clock: VectorClock, changes: Changes) -> None:
        self.in_memory: dict[TenantId, LedgerBook] = {}
        self._read: Callable[[TenantId], LedgerBook] = lambda tenant: LedgerBook(
            tenant, rules, overlay, journal, clock, changes
        )
        self._overlay = overlay
        self._sums = Sums()
        self._forgot_at = 0
        for key, row in overlay.rows(Table.STATES):
            if debt := stored_debt(read(decode_state, Table.STATES, key, row)):
                self._sums.begin_with(TenantId(tenant_of(key)), debt)

    def of(self, tenant: TenantId, now: int) -> LedgerBook:
        """A tenant's book, in memory from here on; without entries if there is no such tenant."""
        book = self.in_memory.get(tenant)
        if book is None:
            book = self.in_memory[tenant] = self._read(tenant)
            self._sums.loaded(book)
        book.touched_at = now
        return book

    def existing(self, tenant: TenantId, now: int) -> LedgerBook | None:
        """The book of a tenant that has any entry."""
        book = self.of(tenant, now)
        return book if book.exists else None

    def glance(self, tenant: TenantId) -> LedgerBook:
        """A tenant's book, or one without entries; it is not kept in memory if it was not there."""
        book = self.in_memory.get(tenant)
        return book if book is not None else self._read(tenant)

    def knows(self, tenant: TenantId) -> bool:
        """Whether a tenant has any entry; its book is not read for that."""
        book = self.in_memory.get(tenant)
        return book.exists if book is not None else self._overlay.get(Table.STATES, tenant_key(tenant)) is not None

    def tenants(self) -> Iterator[TenantId]:
        """Every tenant with an entry, by name."""
        stored = (TenantId(tenant_of(key)) for key, _ in self._overlay.rows(Table.STATES))
        recent = sorted(tenant for tenant, book in self.in_memory.items() if book.exists)
        for tenant, _ in groupby(merge(stored, recent)):
            yield tenant

    def at_work(self, *others: Iterable[TenantId]) -> Iterator[TenantId]:
        """By name, every tenant of which anything is open: a reservation, a debt, a job, the books.

        And those that are in `others`, each sorted by name, whether or not they exist.
        """
        stored = [self._tenants_in(table) for table in (Table.OPEN, Table.RUNNING, Table.UNSETTLED)]
        for tenant, _ in groupby(merge(*stored, *others)):
            yield tenant

    def _tenants_in(self, table: Table) -> Iterator[TenantId]:
        start = b""
        while rows := self._overlay.scan(table, start, None, 1):
            tenant = TenantId(tenant_of(rows[0][0]))
            yield tenant
            start = after_prefix(tenant_key(tenant))

    def forget_idle(self, now: int, at_most: int, but: Collection[TenantId]) -> None:
        """Let go of books that the rows can answer for, if more than `at_most` are in memory; of none in `but`."""
        excess = len(self.in_memory) - at_most
        if excess <= 0 or 0 <= now - self._forgot_at < _FORGET_EVERY_MS:
            return
        self._forgot_at = now
        idle = (book for book in self.in_memory.values() if book.is_idle and book.tenant not in but)
        for book in sorted(idle, key=attrgetter("touched_at"))[:excess]:
            self._sums.leaving(book)
            del self.in_memory[book.tenant]

    # -- sums over tenants ------------------------------------------------------------------------------------------

    def changed(self, book: LedgerBook) -> None:
        """A book has a new entry."""
        self._sums.changed(book)

    def owes(self, tenant: TenantId) -> bool:
        """Whether a tenant owed anything when its debt was last looked at."""
        return self._sums.owes(tenant)

    def debts(self) -> dict[TenantId, int]:
        """What each tenant owes, of those that owe anything. Never change it."""
        return self._sums.debts()

    def digest(self) -> str:
        """A number that names canonical state (see `node.digest`). The first time it reads every tenant."""
        others = (self._read(tenant) for tenant in self.tenants() if tenant not in self.in_memory)
        return self._sums.digest(self.in_memory, others)
