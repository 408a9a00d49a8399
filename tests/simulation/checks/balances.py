"""The balance at any time is what one has who writes everything down in the order in which it happened.

That is done a second time, line by line (tests/reference), from the entries that the node holds. Statements add up.
"""

from random import Random
from typing import TYPE_CHECKING

from ledger.event_time import Standing
from ledger.statement import Statement
from node.audit import canonical_books
from node.book import LedgerBook
from node.history import History
from tests.reference.event_order import happened, ledger_at
from tests.reference.fold import Ledger, Line
from tests.simulation.checks.serial import SerialLedgers
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import SimulatedNode


class BalanceAtAnyTime(Check):
    """Holds every node's balances by event time, at times drawn, against those of a serial ledger."""

    def __init__(self, ledgers: SerialLedgers) -> None:
        self._ledgers = ledgers
        self._random = Random()

    def begun(self, cluster: "Cluster") -> None:
        self._random = Random(f"balances {cluster.scenario.seed}")

    def seen(self, node: "SimulatedNode", book: LedgerBook, now: int) -> None:
        lines = self._happened(node, book)
        self._compare(node, book, lines, self._time(lines, now))

    def rested(self, cluster: "Cluster") -> None:
        for node in cluster.nodes.values():
            assert node.region is not None
            for tenant in node.region.books.tenants():
                book = node.region.books.existing(tenant, node.now())
                assert book is not None
                lines = self._happened(node, book)
                since, to = sorted((self._time(lines, node.now()), self._time(lines, node.now())))
                self._compare(node, book, lines, since)
                if since < to:
                    self._add_up(node, book, lines, since, to)

    def _happened(self, node: "SimulatedNode", book: LedgerBook) -> list[Line]:
        return happened(self._ledgers.of(node, book.tenant).verdicts())

    def _time(self, lines: list[Line], now: int) -> int:
        """Some time at which something happens, or just before it, or any time at all."""
        line = self._random.choice(lines).place.now if lines else now
        end = self._random.choice([getattr(line.operation, "expires_at", now) for line in lines] or [now])
        anything = self._random.randint(min(line, now), max(end, now))
        return self._random.choice([line, line - 1, end, end - 1, now, anything])

    def _compare(self, node: "SimulatedNode", book: LedgerBook, lines: list[Line], at: int) -> None:
        fold = _read(book).fold()
        for _ in fold.before(at + 1):
            pass
        ledger = ledger_at(lines, at, book.rules.key_lifetime_ms)
        expected = {name: amount for name, amount in ledger.accounts.items() if amount}
        if canonical_books(fold.account) != expected:
            raise Broken(
                f"{node.name}: at {at} the books of {book.tenant} were {canonical_books(fold.account)};"
                f" by what happened until then they were {expected}"
            )
        if fold.standing(at) != _standing(ledger, at):
            raise Broken(f"{node.name}: {book.tenant} had {fold.standing(at)} at {at}, not {_standing(ledger, at)}")

    def _add_up(self, node: "SimulatedNode", book: LedgerBook, lines: list[Line], since: int, to: int) -> None:
        statement = Statement(_read(book).fold(), since, to)
        for _ in statement.begin():
            pass
        amounts = [line.amount for line in statement.lines() if line is not None]
        if statement.opening.available + sum(amounts) != statement.closing.available:
            raise Broken(f"{node.name}: {statement.opening} and {amounts} are not {statement.closing}")
        lifetime = book.rules.key_lifetime_ms
        for told, at in ((statement.opening, since - 1), (statement.closing, to - 1)):
            expected = _standing(ledger_at(lines, at, lifetime), at)
            if told != expected:
                raise Broken(f"{node.name}: the statement of {book.tenant} has {told} at {at}, not {expected}")


def _read(book: LedgerBook) -> History:
    history = History(book)
    for _ in history.read():
        pass
    return history


def _standing(ledger: Ledger, at: int) -> Standing:
    held = sum(amount for name, amount in ledger.accounts.items() if name.startswith("held/"))
    return Standing(ledger.available(at), held, ledger.balance("used"), -ledger.balance("debt"))
