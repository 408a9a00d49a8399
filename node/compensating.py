"""Putting a tenant's books right: compensations for what this region lost, once the tenant has been quiet.

And what else may come to light when the entries of others have come in: debt of this region that its credit can repay,
and reservations and lots whose end has come to nothing.
"""

from collections.abc import Callable
from typing import Final

from conflict.compensate import compensations
from conflict.contest import Contest
from ledger.cells import Effect
from ledger.ids import TenantId
from ledger.operation import Compensation, Expire, Grant, Move, Revoke, Settle
from ledger.posting import Outcome
from node.alarms import AlarmKind, Alarms
from node.book import LedgerBook
from node.books import Books
from node.counts import Counts
from node.duties import Duties, Sweep
from node.settings import RegionSettings
from node.store.errors import DamagedEntry
from replication.clock import Dot
from replication.entry import Malformed
from replication.filed import Filed

_COMPENSATED_AT_ONCE: Final = 500
_COMPENSATING_POSTINGS: Final = 1_000
_CONTESTS_AT_ONCE: Final = 100

Post = Callable[[LedgerBook, Effect, Compensation, int], Filed]
"""Posts a compensation at a time in ms. Raises `Malformed` if its entry would be too long."""


class Compensating:
    """What this region owes to the books, tenant by tenant.

    Relation kept: ``unsettled`` holds the books that may have to be put right.
    """

    def __init__(
        self,
        settings: RegionSettings,
        books: Books,
        duties: Duties,
        alarms: Alarms,
        counts: Counts,
        post: Post,
        sweep: Sweep,
    ) -> None:
        self._settings = settings
        self._books = books
        self._duties = duties
        self._alarms = alarms
        self._counts = counts
        self._post = post
        self._sweep = sweep
        self.unsettled: dict[TenantId, LedgerBook] = {}

    def look(self, now: int, present: int) -> None:
        """Put right the books of tenants that have been quiet, or unsettled for too long, a part at a time."""
        looked_at = 0
        for book in list(self.unsettled.values()):
            assert book.quiet_since is not None
            assert book.unsettled_since is not None
            # The clock may have been set back.
            book.quiet_since, book.unsettled_since = min(book.quiet_since, now), min(book.unsettled_since, now)
            quiet = now - book.quiet_since >= self._settings.settle_after_ms
            overdue = now - book.unsettled_since >= self._settings.settle_at_most_ms
            if quiet or overdue:
                try:
                    self._put_right(book, now, present)
                except DamagedEntry:
                    # Nothing was posted; when the entry is mended it will be.
                    book.quiet_since = book.unsettled_since = now
                    continue
                book.quiet_since = book.unsettled_since = None
                del self.unsettled[book.tenant]
                looked_at += 1 + len(book.contests)
                if looked_at > _CONTESTS_AT_ONCE:
                    return

    def amend(self, tenant: TenantId, loser: Dot, now: int) -> Filed | None:
        """Post now what this region owes to the books for one operation; the compensation, or None if nothing is owed.

        It is what would be posted anyway when the tenant has been quiet for long enough.
        """
        book = self._books.of(tenant, now)
        book.review()
        self._count(book)
        contest = book.contests.get(loser)
        posted = self._make_amends(book, [contest], now) if contest is not None else []
        return posted[0] if posted else None

    def _put_right(self, book: LedgerBook, now: int, present: int) -> None:
        book.review()
        self._count(book)
        self._make_amends(book, list(book.contests.values()), now)
        if book.account.debt(self._settings.region) and self._has_own_credit(book, present):
            # A lot started while nobody here knew of the debt, or credit was moved here.
            self._sweep(book, Settle(), now)
        self._watch_reopened(book, now)
        book.drop_void()

    def _make_amends(self, book: LedgerBook, contests: list[Contest], now: int) -> list[Filed]:
        owed = [contest for contest in contests if self._owes(book, contest, now)]
        posted = []
        for compensation, postings in compensations(
            owed, self._settings.region, _COMPENSATED_AT_ONCE, _COMPENSATING_POSTINGS
        ):
            try:
                posted.append(self._post(book, Effect(postings, Outcome.POSTED, None, None, ()), compensation, now))
            except Malformed as error:
                self._alarms.raise_(AlarmKind.TOO_LONG, book.tenant, f"cannot post a compensation: {error}", now)
        return posted

    def _owes(self, book: LedgerBook, contest: Contest, now: int) -> bool:
        """Whether a contest is this region's to settle, and is one: a difference without a rival is a fault."""
        place = contest.loser.position
        if place.region != self._settings.region or contest.is_settled:
            return False
        if contest.amends or book.rivals(contest).count:
            return True
        detail = f"tenant {book.tenant}: no concurrent operation explains {contest.open_difference}"
        self._alarms.raise_(AlarmKind.NO_RIVAL, f"{contest.loser.entry.replica}:{place.seq}", detail, now)
        return False

    def _count(self, book: LedgerBook) -> None:
        counts = self._counts.conflicts
        for contest in book.contests.values():
            is_own = contest.loser.position.region == self._settings.region
            if is_own and not contest.is_counted and not contest.is_void:
                contest.is_counted = True
                kind = contest.kind(book.rivals(contest)).value
                counts[kind] = counts.get(kind, 0) + 1

    def _has_own_credit(self, book: LedgerBook, present: int) -> bool:
        """Whether a lot of this region has something left and is live."""
        lots = [book.account.lots[place.lot] for place in book.account.spending_order]
        return any(lot.remaining and lot.is_live(present) for lot in lots if lot.owner == self._settings.region)

    def _watch_reopened(self, book: LedgerBook, now: int) -> None:
        """Where the end of a reservation or of a lot has come to nothing, nobody looks at it any more: look again.

        That end may have been no more than what canonical order said for a while.
        """
        for contest in book.contests.values():
            operation = contest.loser.operation
            if operation is None:
                continue
            name = book.account.concerned(operation)
            claim = book.account.claims.get(name) if name is not None else None
            if claim is not None:
                self._duties.watch_claim(book.tenant, claim)
            if isinstance(operation, Grant | Revoke | Expire | Move):
                lots = book.account.lots
                grant = lots[operation.lot].grant if operation.lot in lots else operation.lot
                for lot in lots.values():
                    if lot.grant == grant:
                        self._duties.watch_lot(book.tenant, lot, now)
