"""Canonical state is what one serial ledger holds that is given all operations in canonical order.

The serial ledger is written a second time, coin by coin (tests/reference). Each node has one here for each tenant,
which is told of the same entries as the node; what it says is compared with what the node says, all the time.
"""

import pickle
from bisect import bisect
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from ledger.ids import ClaimId, JobId
from ledger.job import Job
from node.audit import canonical_books
from node.book import LedgerBook
from tests.reference.fold import Ledger, Line, PlainJob, Verdict, extend
from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import SimulatedNode


_KEPT_EVERY: Final = 20


class SerialLedger:
    """One tenant's operations at one node, and the serial ledger that is given them in canonical order."""

    def __init__(self, key_lifetime_ms: int) -> None:
        self._key_lifetime_ms = key_lifetime_ms
        self._lines: list[Line] = []
        self._ledger = Ledger(key_lifetime_ms)
        self._kept: list[bytes] = []
        """Copies of the ledger, after every so many lines: counting out starts again from the last that is right."""
        self.has_changed = True
        """Since somebody last compared."""

    def add(self, fact: Fact) -> None:
        """One more operation, wherever it belongs."""
        line = Line(fact.place, fact.operation, fact.key)
        self.has_changed = True
        index = bisect(self._lines, line.place, key=lambda line: line.place)
        self._lines.insert(index, line)
        if index < len(self._ledger.verdicts):
            del self._kept[index // _KEPT_EVERY :]
            self._ledger = pickle.loads(self._kept[-1]) if self._kept else Ledger(self._key_lifetime_ms)

    @property
    def ledger(self) -> Ledger:
        """The books, counted out again where an operation came in before others."""
        ledger = self._ledger
        for line in self._lines[len(ledger.verdicts) :]:
            extend(ledger, line)
            if len(ledger.verdicts) == (len(self._kept) + 1) * _KEPT_EVERY:
                self._kept.append(pickle.dumps(ledger))
        return ledger

    def verdicts(self) -> list[tuple[Line, Verdict]]:
        """What each operation did, in canonical order."""
        return list(zip(self._lines, self.ledger.verdicts, strict=True))


def serial_ledger(facts: list[Fact], key_lifetime_ms: int) -> SerialLedger:
    """The serial ledger of these entries."""
    ledger = SerialLedger(key_lifetime_ms)
    for fact in facts:
        if fact.is_operation:
            ledger.add(fact)
    return ledger


class SerialLedgers(Check):
    """Holds every node against its serial ledgers."""

    def __init__(self) -> None:
        self._ledgers: dict[str, defaultdict[str, SerialLedger]] = {}

    def of(self, node: "SimulatedNode", tenant: str) -> SerialLedger:
        """The serial ledger of what a node holds of a tenant."""
        return self._ledgers[node.name][tenant]

    def started(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        lifetime = node.settings.rules.key_lifetime_ms
        ledgers = self._ledgers[node.name] = defaultdict(lambda: SerialLedger(lifetime))
        for tenant in list(node.facts.by_tenant):
            for fact in node.facts.covered(tenant, node.region.clock):
                if fact.is_operation:
                    ledgers[tenant].add(fact)

    def applied(self, node: "SimulatedNode", fact: Fact) -> None:
        if fact.is_operation:
            for leg in fact.legs:
                self.of(node, leg.tenant).add(leg)

    def seen(self, node: "SimulatedNode", book: LedgerBook, now: int) -> None:
        self._compare(node, book)

    def ticked(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        for tenant, serial in self._ledgers[node.name].items():
            book = node.region.books.in_memory.get(tenant)  # type: ignore[call-overload]
            if serial.has_changed and book is not None:
                serial.has_changed = False
                self._compare(node, book)

    def rested(self, cluster: "Cluster") -> None:
        for node in cluster.nodes.values():
            assert node.region is not None
            for tenant in node.region.books.tenants():
                book = node.region.books.existing(tenant, node.now())
                assert book is not None
                self._compare(node, book)

    def _compare(self, node: "SimulatedNode", book: LedgerBook) -> None:
        ledger = self.of(node, book.tenant).ledger
        expected = {name: amount for name, amount in ledger.accounts.items() if amount}
        if canonical_books(book.account) != expected:
            raise Broken(
                f"{node.name}: the books of {book.tenant} are {canonical_books(book.account)};"
                f" one serial ledger has {expected}"
            )
        for name, plain in ledger.claims.items():
            claim = book.account.claim(name)  # type: ignore[arg-type]
            if claim is None or claim.state != plain.state:
                raise Broken(f"{node.name}: {name} of {book.tenant} is {claim}; one serial ledger has {plain}")
            if plain.lease_until and claim.lease_until != plain.lease_until:
                raise Broken(f"{node.name}: the lease of {name} ends at {claim.lease_until}, not {plain.lease_until}")
            for funding, coins in ((claim.held, plain.held), (claim.used, plain.used)):
                paid = [lot for lot, amount in funding for _ in range(amount)]
                if paid != [coin for coin in coins if coin is not None]:
                    raise Broken(f"{node.name}: {name} of {book.tenant} is paid by {funding}, not by {coins}")
        if book.account.policy != ledger.policy:
            raise Broken(f"{node.name}: the policy of {book.tenant} is {book.account.policy}, not {ledger.policy}")
        for job_name, plain_job in ledger.jobs.items():
            self._compare_job(node, book, job_name, plain_job)

    def _compare_job(self, node: "SimulatedNode", book: LedgerBook, name: str, plain: PlainJob) -> None:
        job = book.account.job(JobId(name))
        spans = sorted(interval for interval in plain.reported if interval[0] < interval[1])
        covered: list[list[int]] = []
        for start, end in spans:
            if covered and start <= covered[-1][1]:
                covered[-1][1] = max(covered[-1][1], end)
            else:
                covered.append([start, end])
        expected = Job(
            JobId(name),
            ClaimId(plain.reserved_by) if plain.reserved_by is not None else None,
            min(plain.started, default=None),
            max(plain.seen, default=None),
            max(plain.finished, default=None),
            tuple((start, end) for start, end in covered),
            plain.charged,
            plain.unreserved,
        )
        if job != expected:
            raise Broken(f"{node.name}: the job {name} of {book.tenant} is {job}; one serial ledger has {expected}")
