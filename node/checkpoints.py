"""What is stable leaves memory for the rows, some of it at a time, the tenant that has waited longest first."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from ledger.ids import TenantId
from ledger.timeline import BEGINNING
from node.book import LedgerBook
from node.lowwater import LowWater
from node.store.errors import DamagedEntry
from replication.filed import Filed

_ENTRIES: Final = 256
_BOOKS: Final = 64
_SHARE: Final = 128
"""Of what waits to be checkpointed, at least this part is done at a time, so that no load can outrun it."""


class Checkpoints:
    """The books that have entries which are not in the rows, and how far the rows go.

    Relation kept: ``unstable`` has those books, the one looked at longest ago first.
    """

    def __init__(self, low: LowWater) -> None:
        self.low = low
        self.unstable: dict[TenantId, LedgerBook] = {}

    def joined(self, book: LedgerBook) -> None:
        """A book has an entry of the open commit that is not in the rows."""
        self.low.joined()
        self.unstable[book.tenant] = book

    def advance(self, frontier: int) -> None:
        """Write some of what is stable, up to the clock reading `frontier`, to the rows."""
        budget = max(_ENTRIES, self.low.waiting // _SHARE)
        books = max(_BOOKS, len(self.unstable) // _SHARE)
        for tenant, book in list(islice(self.unstable.items(), books)):
            del self.unstable[tenant]
            try:
                done = book.checkpoint(frontier, budget)
            except DamagedEntry:
                done = []  # nothing was written; when the entry is mended it will be
            for filed in done:
                budget -= 1
                self.low.checkpointed(filed.commit)
            if len(book.timeline):
                self.unstable[tenant] = book
            if budget <= 0:
                break
        self.low.advance()

    def waiting_in(self, commits: set[int]) -> Iterator[Filed]:
        """The entries of some closed commits that are not in the rows."""
        if any(map(self.low.left, commits)):
            for book in self.unstable.values():
                for filed in book.timeline.entries_between(BEGINNING, len(book.timeline)):
                    if filed.commit in commits:
                        yield filed
