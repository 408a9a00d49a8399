"""Credit is moved, never made: postings sum to zero, and what a tenant was given is somewhere."""

from typing import TYPE_CHECKING

from node.book import LedgerBook
from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedNode


class Conservation(Check):
    """Of every entry when it is applied, and of every tenant's state whenever a node has done what was due."""

    def applied(self, node: "SimulatedNode", fact: Fact) -> None:
        for leg in fact.legs:
            if sum(leg.postings.values()):
                raise Broken(f"the postings of {fact.dot} for {leg.tenant} do not sum to zero: {leg.postings}")

    def seen(self, node: "SimulatedNode", book: LedgerBook, now: int) -> None:
        self._look(node, book)

    def ticked(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        for book in node.region.books.in_memory.values():
            self._look(node, book)

    def _look(self, node: "SimulatedNode", book: LedgerBook) -> None:
        account = book.account
        lots = [lot.remaining for lot in account.lots.values()]
        held = [claim.held_total for claim in account.claims.values()]
        if sum(account.totals.values()) + sum(lots) + sum(held):
            raise Broken(f"{node.name}: the accounts of {book.tenant} do not sum to zero")
        if min([*lots, *held], default=0) < 0:
            raise Broken(f"{node.name}: a lot or a hold of {book.tenant} is negative")
        if account.totals["debt"] > 0:
            raise Broken(f"{node.name}: {book.tenant} owes less than nothing")
