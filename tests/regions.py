"""Short words for stories of several regions that are apart and meet again.

Every accepted command is durable at once, and every one comes a millisecond after the one before it, so that canonical
order is the order in which the story is told.
"""

from collections.abc import Sequence
from itertools import combinations

from conflict.report import Report
from ledger.command import (
    AcknowledgeConflict,
    CaptureUsage,
    Command,
    DebitUsage,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    ReportHeartbeat,
    ReportUsage,
    Reserve,
    RevokeLot,
    SetPolicy,
    TransferCredit,
)
from ledger.ids import ClaimId, JobId, Key, LotId, Position, TenantId
from ledger.operation import Content, OnOverspend
from ledger.posting import Postings, total
from ledger.refusal import Refusal
from ledger.rules import Rules
from ledger.timeline import BEGINNING
from node.acknowledging import acknowledge
from node.book import LedgerBook
from node.region import Accepted
from replication.filed import Filed
from tests.world import START_MS, TENANT, World

END = Position(2**62, "", "", 0)
HOUR_MS = 3_600_000


def grant(lot: str, amount: int, until: int = HOUR_MS, starts: int | None = None) -> GrantCredit:
    """A lot that is live, in ms since the story began, from `starts` (now) until `until`."""
    starts_at = None if starts is None else START_MS + starts
    return GrantCredit(amount, START_MS + until, starts_at, lot=LotId(lot))


def reserve(claim: str | None, amount: int, lease_ms: int = HOUR_MS, job: str | None = None) -> Reserve:
    """A reservation, for a job if one is named; without a name, one that takes its name from the key."""
    return Reserve(amount, lease_ms, None if claim is None else ClaimId(claim), None if job is None else JobId(job))


def renew(claim: str, lease_ms: int) -> RenewLease:
    """A heartbeat."""
    return RenewLease(ClaimId(claim), lease_ms)


def capture(claim: str, amount: int, final: bool = False) -> CaptureUsage:
    """Usage of a reservation, now."""
    return CaptureUsage(ClaimId(claim), amount, final=final)


def release(claim: str) -> ReleaseHold:
    """The end of a reservation."""
    return ReleaseHold(ClaimId(claim))


def debit(claim: str, amount: int, on_shortage: OnShortage = OnShortage.REFUSE) -> DebitUsage:
    """Usage without a reservation, now."""
    return DebitUsage(amount, debit=ClaimId(claim), on_shortage=on_shortage)


def refund(claim: str, amount: int) -> RefundUsage:
    """Usage taken back."""
    return RefundUsage(ClaimId(claim), amount)


def revoke(lot: str) -> RevokeLot:
    """A lot taken back."""
    return RevokeLot(LotId(lot))


def transfer(to: TenantId, amount: int, until: int | None = None) -> TransferCredit:
    """Credit given away, until so many ms after the story began."""
    return TransferCredit(to, amount, None if until is None else START_MS + until)


def heartbeat(job: str, lease_ms: int = HOUR_MS, claim: str | None = None, started: bool = False) -> ReportHeartbeat:
    """A job runs."""
    return ReportHeartbeat(JobId(job), None, None if claim is None else ClaimId(claim), lease_ms, started)


def usage(job: str, start: int, end: int, cost: int, claim: str | None = None, final: bool = False) -> ReportUsage:
    """A job ran, in ms since the story began."""
    named = None if claim is None else ClaimId(claim)
    return ReportUsage(JobId(job), START_MS + end, START_MS + start, cost, named, final)


VOID_IF_SHORT = SetPolicy(OnOverspend.REVOKE)
"""From here on, a reservation that canonical order leaves short is void."""

UMBRA = TenantId("umbra")
"""Another tenant."""


class Regions(World):
    """A world whose regions are linked until `part`, and again from `meet` on."""

    def __init__(self, *names: str, **settings: int | Rules) -> None:
        super().__init__(names, **settings)
        self._keys = 0
        self.exchange()

    # -- what happens -----------------------------------------------------------------------------------------------

    def ask(self, name: str, command: Command, key: str | None = None, tenant: TenantId = TENANT) -> Accepted | Refusal:
        """A client asks, under a key of its own unless one is given; nothing lands."""
        self._keys += 1
        self.pass_time(1)
        return self.submit(name, command, key or f"key-{self._keys}", tenant)

    def do(self, name: str, command: Command, key: str | None = None, tenant: TenantId = TENANT) -> Filed:
        """A client asks, is accepted, and the entry lands."""
        answer = self.ask(name, command, key, tenant)
        assert isinstance(answer, Accepted), answer
        assert not answer.replayed
        self.land(name)
        return answer.filed

    def acknowledge(
        self, name: str, conflict: str, by: str = "ann", note: str | None = None, key: str | None = None
    ) -> Filed:
        """Somebody says that a conflict was seen to, is heard, and the entry that says so lands."""
        self._keys += 1
        self.pass_time(1)
        said = AcknowledgeConflict(conflict, by, note)
        answer = acknowledge(self.region(name), said, Key(key or f"key-{self._keys}"), self.now)
        assert isinstance(answer, Accepted), answer
        self.land(name)
        return answer.filed

    def part(self, *alone: str) -> None:
        """Cut all links, or all links of those who are named."""
        for one, other in combinations(self.names, 2):
            if not alone or one in alone or other in alone:
                self.set_cut(one, other, True)

    def exchange(self, ms: int = 400) -> None:
        """Let time pass in steps in which every linked region tells what it has: by default too short to settle."""
        for _ in range(ms // 100):
            self.pass_time(100)
            for name in self.names:
                self.tick(name)
                self.land(name)
            while self.wire:
                self.deliver()
                for name in self.names:
                    self.land(name)

    def meet(self) -> None:
        """All links come up again, and everybody learns everything; nothing is put right yet."""
        self.cut.clear()
        self.exchange()

    def meet_only(self, *names: str) -> None:
        """Those who are named learn everything from each other, and nobody else does."""
        self.part()
        for one, other in combinations(names, 2):
            self.set_cut(one, other, False)
        self.exchange()
        self.part()

    def put_right(self) -> None:
        """All links come up again, and what is due is posted and told."""
        self.settle(rounds=10)

    # -- what the books say -----------------------------------------------------------------------------------------

    def book(self, name: str, tenant: TenantId = TENANT) -> LedgerBook:
        """The book of a tenant that must exist."""
        book = self.region(name).books.existing(tenant, self.now)
        assert book is not None
        return book

    def posted(self, name: str, tenant: TenantId = TENANT) -> Postings:
        """The sum of all postings that a region holds, account by account."""
        return total(filed.postings for filed in self.book(name, tenant).entries(BEGINNING, 100_000))

    def contents(self, name: str, sort: type[Content], tenant: TenantId = TENANT) -> list[tuple[str, Content]]:
        """A tenant's entries whose content is of one sort, in canonical order, with the region that accepted each."""
        entries = self.book(name, tenant).entries(BEGINNING, 100_000)
        return [(filed.entry.region, filed.entry.content) for filed in entries if isinstance(filed.entry.content, sort)]

    def reports(self, name: str, tenant: TenantId | None = None) -> list[Report]:
        """Every conflict, the newest loser first; of one tenant if asked for."""
        return list(self.region(name).conflicts.reports(tenant, END, self.now))

    def the_report(self) -> Report:
        """The one conflict there is: the same in every region."""
        told = [self.reports(name) for name in self.names]
        assert all(reports == told[0] for reports in told), told
        (report,) = told[0]
        return report


def clash(before: Sequence[Command], earlier: Sequence[Command], later: Sequence[Command]) -> Regions:
    """Both regions know `before`; apart, eu does `earlier` and then us does `later`; they meet: us has lost.

    Nothing is put right yet.
    """
    world = Regions("eu", "us")
    for command in before:
        world.do("eu", command)
    world.meet()
    world.part()
    for name, commands in (("eu", earlier), ("us", later)):
        for command in commands:
            world.do(name, command)
    world.meet()
    return world
