"""The conflicts that a region knows of: their reports, all or one, and which of them have changed.

Contests are looked for when somebody asks, so whatever has come in counts, durable or not: who shows a report waits
for the disk (`node.runtime`).
"""

from collections.abc import Callable, Iterator, Mapping
from heapq import merge
from operator import itemgetter

from conflict.contest import Contest
from conflict.report import Report, loser_in
from ledger.ids import Position, TenantId
from node.book import LedgerBook
from node.books import Books
from node.changes import Changes
from node.store.journal import Journal
from node.store.kv import ROWS_AT_ONCE, Overlay, Table
from node.store.rows import conflict_of, dot_at, history_key, place_key, place_of, tenant_key
from replication.clock import Dot
from replication.filed import Filed, legs_of


class Conflicts:
    """Reads the contests of all books.

    ``unsettled`` are the books that may have contests nobody has looked for. Relation kept: ``_stirred`` holds those
    with entries that ``changes`` has not looked at.
    """

    def __init__(
        self,
        overlay: Overlay,
        journal: Journal,
        books: Books,
        changes: Changes,
        unsettled: Mapping[TenantId, LedgerBook],
    ) -> None:
        self._overlay = overlay
        self._journal = journal
        self._books = books
        self._unsettled = unsettled
        self._stirred: dict[TenantId, LedgerBook] = {}
        self.changes = changes

    # -- what has changed -------------------------------------------------------------------------------------------

    def stir(self, book: LedgerBook) -> None:
        """A book has a new entry."""
        self._stirred[book.tenant] = book

    def look(self) -> None:
        """Find the reports that others than their own entries have changed. Until a burst is over, it is left alone."""
        self._look_for_changes(lambda tenant: tenant not in self._unsettled)

    def look_for_changes(self) -> None:
        """Bring ``changes`` up to date with all that has come in, without waiting for what is due by itself."""
        self._review()
        self._look_for_changes(lambda _: True)

    def _look_for_changes(self, is_due: Callable[[TenantId], bool]) -> None:
        for book in [book for tenant, book in self._stirred.items() if is_due(tenant)]:
            book.look_who_owes()
            del self._stirred[book.tenant]

    def _review(self) -> None:
        for book in list(self._unsettled.values()):
            book.review()

    # -- reports ----------------------------------------------------------------------------------------------------

    def reports(self, tenant: TenantId | None, before: Position, now: int) -> Iterator[Report]:
        """Every conflict whose loser stands before `before`, the newest loser first; of one tenant if asked for."""
        self._review()
        books = self._books.in_memory.values() if tenant is None else [self._books.of(tenant, now)]
        recent = {
            (contest.loser.position, book.tenant): (book, contest)
            for book in books
            for contest in book.contests.values()
            if contest.loser.position < before and not contest.is_void
        }
        newest = sorted(recent.items(), key=itemgetter(0), reverse=True)
        stored = ((named, None) for named in self._stored(tenant, before) if named not in recent)
        for (place, owner), at_hand in merge(newest, stored, key=itemgetter(0), reverse=True):
            book, contest = at_hand or (self._books.of(owner, now), None)
            found = contest or book.stored_contest(place)
            assert found is not None
            if not found.is_void:
                yield book.report(found)

    def report(self, name: str, now: int) -> Report | None:
        """One conflict by an id that it has or has had, if there is one: what is known of it may change its kind."""
        found = self.contested(name, now)
        return found[0].report(found[1]) if found is not None and not found[1].is_void else None

    def contested(self, name: str, now: int) -> tuple[LedgerBook, Contest] | None:
        """The contest of the loser that the id of a report names, in its book; it may have come to nothing."""
        named = loser_in(name)
        if named is None:
            return None
        dot, is_receipt = named
        found = self._journal.find(dot.replica, dot.seq)
        filed = next((leg for leg in legs_of(found) if leg.is_receipt == is_receipt), None) if found else None
        if filed is None:
            return None
        contest = self._contest_of(filed, now)
        return (self._books.of(filed.tenant, now), contest) if contest is not None else None

    def report_at(self, tenant: TenantId, loser: Position, now: int) -> Report | None:
        """The conflict of the operation at a place, if there is one."""
        book = self._books.of(tenant, now)
        book.review()
        contest = book.contests.get(dot_at(loser)) or book.stored_contest(loser)
        return book.report(contest) if contest is not None and not contest.is_void else None

    def amends(self, tenant: TenantId, loser: Dot, now: int) -> list[Filed] | None:
        """The compensations known for an operation, in canonical order; None if the tenant has no such entry here."""
        found = self._journal.find(loser.replica, loser.seq)
        filed = next((leg for leg in legs_of(found) if leg.tenant == tenant), None) if found else None
        if filed is None:
            return None
        contest = self._contest_of(filed, now)
        posted = [self._journal.find(*amends.dot) for amends in contest.amends] if contest is not None else []
        return [entry for entry in posted if entry is not None]

    def _contest_of(self, filed: Filed, now: int) -> Contest | None:
        book = self._books.of(filed.tenant, now)
        book.review()
        return book.contests.get(filed.dot) or book.stored_contest(filed.position)

    def _stored(self, tenant: TenantId | None, before: Position) -> Iterator[tuple[Position, TenantId]]:
        """The conflicts that have rows, the latest first."""
        if tenant is None:
            table, start, stop = Table.CONFLICT_ORDER, b"", place_key(before)
        else:
            table, start, stop = Table.CONFLICTS, tenant_key(tenant), history_key(tenant, before)
        while rows := self._overlay.scan(table, start, stop, ROWS_AT_ONCE, reverse=True):
            for key, _ in rows:
                yield conflict_of(key) if tenant is None else (place_of(key.removeprefix(start)), tenant)
            stop = rows[-1][0]
