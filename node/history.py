"""All that a node knows of one tenant at one moment, brought into event order: what statements are made of.

The moment is when a `History` is made: it takes the entries that are not checkpointed as they stand, and how far the
rows are true. What the rows say up to there does not change any more, so that the past is read afterwards, entry by
entry, while others are served; nothing that comes in meanwhile is in it.

A period is final when nothing can come in any more that happened in it: usage may be reported late, but no later than
the limit of all nodes, so that it takes the promises of all regions up to the period's end and so much longer.
"""

from collections.abc import Iterator, Mapping

from ledger.event_time import EventFold, EventOrder
from node.book import LedgerBook
from node.store.rows import DUPLICATE, NO_OPERATION, VOID
from replication.clock import hlc_at
from replication.filed import Filed


class Overtaken(Exception):
    """The rows have been written anew while they were read: an entry came in before what was stable."""


class History:
    """One tenant's history at one moment; `order` is complete when `read` has been taken to its end."""

    def __init__(self, book: LedgerBook) -> None:
        self.order: EventOrder[Filed] = EventOrder()
        self._book = book
        self._rules = book.rules
        self._until = book.timeline.begins_after
        self._recent = book.recent()
        self._stable_count = book.entry_count - len(self._recent)

    def read(self) -> Iterator[None]:
        """Read the history, entry by entry. Raises `DamagedEntry`, and `Overtaken`."""
        book, count = self._book, 0
        for place, sort in book.past(self._until):
            count += 1
            if sort not in (NO_OPERATION, DUPLICATE):
                self.order.add(book.found(place), is_void=sort == VOID)
            yield
        if count != self._stable_count:
            raise Overtaken
        for filed, sort in self._recent:
            if sort not in (NO_OPERATION, DUPLICATE):
                self.order.add(filed, is_void=sort == VOID)
            yield

    def fold(self) -> EventFold[Filed]:
        """An account that nothing has been folded into yet."""
        return EventFold(self.order, self._rules)


def open_regions(promises: Mapping[str, int], final_from: int) -> dict[str, int]:
    """The regions that have not promised everything up to `final_from` (ms), each with what it has promised."""
    return {region: promise for region, promise in sorted(promises.items()) if promise < hlc_at(final_from)}
