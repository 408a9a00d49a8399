"""One tenant over its rows: what is checkpointed comes back the same, and a late entry folds it anew."""

from collections import Counter

import pytest

from ledger.account import Account
from ledger.cells import DEFAULT_POLICY
from ledger.claim import Claim
from ledger.command import Command, OnShortage, SetPolicy
from ledger.ids import ClaimId, JobId, Key
from ledger.operation import OnOverspend
from ledger.timeline import BEGINNING
from node.alarms import AlarmKind
from node.audit import canonical_books
from node.book import LedgerBook
from node.digest import tenant_digest
from node.past import stored_debt
from node.store.journal import Journal
from node.store.kv import Table
from node.store.rows import (
    DUPLICATE,
    NO_OPERATION,
    OPERATION,
    REVOCATION,
    VOID,
    decode_history,
    decode_state,
    tenant_key,
)
from replication.clock import hlc_at
from replication.filed import Filed
from tests.regions import (
    HOUR_MS,
    VOID_IF_SHORT,
    Regions,
    capture,
    clash,
    debit,
    grant,
    heartbeat,
    refund,
    release,
    renew,
    reserve,
    revoke,
    usage,
)
from tests.world import TENANT

FAR = hlc_at(2**45)
"""A frontier behind everything."""


def from_rows(world: Regions, name: str) -> LedgerBook:
    """The book as its rows have it, without what is only in memory."""
    region = world.region(name)
    return LedgerBook(
        TENANT, region.settings.rules, region._overlay, region.journal, region.clock, region.conflicts.changes
    )


def history() -> Regions:
    """A tenant to whom everything happens, and nothing of it is checkpointed: us is away."""
    world = Regions("eu", "us")
    world.part()
    commands: list[Command] = [
        grant("L", 100),
        grant("M", 50),
        reserve("a", 80),
        capture("a", 30),
        reserve("b", 40),
        capture("a", 60, final=True),
        debit("c", 45, OnShortage.DEBT),
        release("b"),
        refund("c", 15),
        reserve("d", 5),
        revoke("M"),
        debit("e", 500, OnShortage.DEBT),
    ]
    for key, command in enumerate(commands):
        world.do("eu", command, key=f"k{key}")
    assert len(world.book("eu").timeline) == 12
    return world


def everything(account: Account) -> tuple[int, dict[str, int], list[Claim | None], list[object]]:
    """All that can be asked of an account: state, books, all claims, all keys."""
    return (
        tenant_digest(TENANT, account),
        canonical_books(account),
        [account.claim(ClaimId(name)) for name in "abcdex"],
        [account.key_use(Key(f"k{number}")) for number in range(13)],
    )


class TestCheckpoints:
    def test_after_each_step_the_rows_and_the_rest_are_the_same_account(self) -> None:
        world = history()
        book = world.book("eu")
        expected = everything(book.account)
        rest = list(book.entries(BEGINNING, 100))
        while rest:
            step = book.checkpoint(FAR, 1)
            assert step == [rest.pop(0)]
            again = from_rows(world, "eu")
            for filed in rest:
                again.insert(filed, world.now)
            assert everything(book.account) == everything(again.account) == expected
            assert again.entry_count == book.entry_count == 12
        assert book.is_idle
        assert from_rows(world, "eu").is_idle
        assert book.checkpoint(FAR, 1) == []

    def test_a_step_of_many_is_the_same_as_many_steps(self) -> None:
        one, many = history(), history()
        one.book("eu").checkpoint(FAR, 100)
        while many.book("eu").checkpoint(FAR, 1):
            pass
        assert everything(from_rows(one, "eu").account) == everything(from_rows(many, "eu").account)

    def test_only_what_is_at_or_before_the_frontier_is_taken(self) -> None:
        world = history()
        book = world.book("eu")
        third = book.entries(BEGINNING, 100)[2].position
        assert len(book.checkpoint(third.hlc - 1, 100)) == 2
        assert len(book.checkpoint(third.hlc, 100)) == 1
        assert book.timeline.begins_after == book.stable_until == third

    def test_memory_keeps_only_what_can_still_change(self) -> None:
        world = history()
        book = world.book("eu")
        book.checkpoint(FAR, 100)
        assert sorted(book.account.claims) == ["d", "e"]
        assert book.account.keys == {}
        assert sorted(from_rows(world, "eu").account.claims) == ["d", "e"]
        assert sorted(from_rows(world, "eu").account.lots) == ["L", "M"]

    def test_ended_claims_are_listed_by_id_page_by_page(self) -> None:
        world = history()
        book = world.book("eu")
        assert book.ended_claims(None, 10) == []
        book.checkpoint(FAR, 100)
        assert [claim.id for claim in book.ended_claims(None, 10)] == ["a", "b", "c"]
        assert [claim.id for claim in book.ended_claims(None, 2)] == ["a", "b"]
        assert [claim.id for claim in book.ended_claims(ClaimId("b"), 2)] == ["c"]
        assert [claim.id for claim in book.ended_claims(ClaimId("aa"), 2)] == ["b", "c"]
        assert book.ended_claims(None, 1) == [book.account.claim(ClaimId("a"))]

    def test_a_claim_that_ends_leaves_the_open_ones_also_on_disk(self) -> None:
        world = history()
        book = world.book("eu")
        book.checkpoint(FAR, 5)
        overlay = world.region("eu")._overlay
        assert overlay.get(Table.OPEN, tenant_key(TENANT, "b")) is not None
        book.checkpoint(FAR, 100)
        assert overlay.get(Table.OPEN, tenant_key(TENANT, "b")) is None
        assert overlay.get(Table.CLOSED, tenant_key(TENANT, "b")) is not None

    def test_a_claim_that_ended_can_still_be_refunded_and_goes_back_to_its_row(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        world.do("eu", debit("a", 60))
        world.exchange(2_000)
        assert world.book("eu").account.claims == {}
        world.do("eu", refund("a", 20))
        world.exchange(2_000)
        assert world.book("eu").is_idle
        world.crash("eu")
        claim = world.book("eu").account.claim(ClaimId("a"))
        assert claim is not None
        assert claim.used == (("L", 40),)
        assert world.posted("eu") == {"issued": -100, "lot/L": 60, "used": 40}

    def test_what_a_tenant_owes_can_be_read_from_its_row_alone(self) -> None:
        world = history()
        book = world.book("eu")
        book.checkpoint(FAR, 100)
        row = world.region("eu")._overlay.get(Table.STATES, tenant_key(TENANT))
        assert row is not None
        assert stored_debt(decode_state(row)) == -book.account.totals["debt"] > 0

    def test_a_tenant_without_entries_does_not_exist(self) -> None:
        world = Regions("eu")
        book = from_rows(world, "eu")
        assert (book.exists, book.is_idle, book.entry_count, book.entries(BEGINNING, 10)) == (False, True, 0, [])
        assert from_rows(history(), "eu").exists is False


class TestEntries:
    def test_pages_run_across_the_checkpoint(self) -> None:
        world = history()
        book = world.book("eu")
        before = book.entries(BEGINNING, 100)
        book.checkpoint(FAR, 4)
        book.checkpoint(FAR, 3)
        assert book.entries(BEGINNING, 100) == before
        for limit in (1, 2, 5, 12):
            read: list[Filed] = []
            while page := book.entries(read[-1].position if read else BEGINNING, limit):
                assert len(page) <= limit
                read += page
            assert read == before

    def test_a_book_knows_which_entries_its_rows_hold(self) -> None:
        world = history()
        book = world.book("eu")
        places = [filed.position for filed in book.entries(BEGINNING, 100)]
        book.checkpoint(FAR, 4)
        book.checkpoint(FAR, 3)
        assert [book.holds(place) for place in places] == [True] * 7 + [False] * 5
        assert not book.holds(places[2]._replace(hlc=places[2].hlc - 1))
        assert not book.holds(places[2]._replace(region="zz"))
        assert not book.holds(places[2]._replace(seq=places[2].seq + 1))

    def test_the_history_tells_what_entries_came_to(self) -> None:
        world = clash(
            [grant("L", 100), grant("M", 1), SetPolicy(OnOverspend.REVOKE)],
            [reserve("a", 80), revoke("M")],
            [reserve("b", 80), reserve("a", 5), revoke("L")],
        )
        sorts = [OPERATION] * 4 + [REVOCATION, VOID, DUPLICATE, REVOCATION]
        world.put_right()
        world.exchange(2_000)
        rows = world.region("eu")._overlay.scan(Table.HISTORY, b"", None, 100)
        assert [sort for _, value in rows for *_, sort in decode_history(value)] == [*sorts, NO_OPERATION]
        book = world.book("eu")
        places = [filed.position for filed in book.entries(BEGINNING, 100)]
        assert list(book.past(places[6])) == list(zip(places[:7], sorts[:7], strict=True))
        assert book.recent() == []


class TestContests:
    def test_a_contest_that_is_settled_and_stable_lives_in_its_row(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        world.put_right()
        world.exchange(2_000)
        (report,) = world.reports("eu")
        for name in world.names:
            book = world.book(name)
            assert book.contests == {}
            loser = book.entries(BEGINNING, 100)[2]
            stored = book.stored_contest(loser.position)
            assert stored is not None
            assert book.report(stored) == report
            assert from_rows(world, name).report(stored) == report

    def test_a_contest_that_is_not_settled_stays_in_memory_and_is_listed_on_disk(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        for name in world.names:
            book = world.book(name)
            book.checkpoint(FAR, 100)
            assert (len(book.timeline), len(book.contests), book.is_idle) == (0, 1, False)
            again = from_rows(world, name)
            assert again.contests.keys() == book.contests.keys()
            (contest,) = again.contests.values()
            assert contest.open_difference == {"lot/L": 60, "debt": -60}
            assert again.report(contest) == world.reports(name)[0]

    def test_a_compensation_that_follows_a_stable_loser_is_written_to_its_row(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        for name in world.names:
            world.book(name).checkpoint(FAR, 100)
        world.put_right()
        world.exchange(2_000)
        for name in world.names:
            book = world.book(name)
            assert book.is_idle
            assert world.region(name)._overlay.scan(Table.UNSETTLED, b"", None, 10) == []
            stored = book.stored_contest(book.entries(BEGINNING, 100)[2].position)
            assert stored is not None
            assert stored.is_settled
            assert len(stored.amends) == 1

    def test_an_operation_that_is_as_recorded_after_all_is_no_contest(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 160))
        world.do("eu", debit("early", 60))
        world.meet()
        world.part()
        world.do("ap", refund("early", 60))
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.set_cut("eu", "us", False)
        world.exchange(400)
        book = world.book("us")
        book.review()
        assert len(book.contests) == 1
        world.meet()
        book.review()
        assert [contest.is_void for contest in book.contests.values()] == [True]
        assert world.reports("us") == []
        assert world.region("us").conflicts.report("us.b3.1.overspend", world.now) is None
        world.put_right()
        assert book.contests == {}
        assert world.region("us").counts.conflicts == {}


class TestALateEntry:
    """ap loses its disk while an entry of it is still on the way, and what stands behind it is checkpointed."""

    def world(self) -> tuple[Regions, bytes]:
        """eu and us have reserved 100 of 100, which is checkpointed; ap had used 30 of it before. And that entry."""
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part("ap")
        lost = world.do("ap", debit("x", 30), key="kx")
        sealed = world.region("ap").journal.sealed(*lost.dot)
        assert sealed is not None
        world.do("eu", reserve("a", 60), key="ka")
        world.do("eu", capture("a", 60, final=True))
        world.do("us", reserve("b", 20))
        world.exchange()
        world.do("eu", reserve("c", 20))
        world.lose_disk("ap")
        world.meet()
        world.exchange(3_000)
        for name in world.names:
            assert world.book(name).is_idle
        assert world.posted("eu") == {"issued": -100, "used": 60, "held/b": 20, "held/c": 20}
        return world, sealed

    BOOKS = {"issued": -100, "used": 90, "held/b": 20, "held/c": 20, "debt": -30}  # noqa: RUF012

    def check(self, world: Regions) -> None:
        """Everybody has taken it in: who reserved last is short, and everything hangs together."""
        for name in world.names:
            assert world.posted(name) == self.BOOKS
            assert canonical_books(world.book(name).account) == self.BOOKS
            result = world.audit(name)
            assert (result.findings, result.books_equal) == ([], True)
        reports = world.reports("eu")
        assert reports == world.reports("us") == world.reports("ap")
        told = {(report.loser.claim, report.kind, report.state, report.debt) for report in reports}
        assert told == {("b", "overspend", "compensated", 10), ("c", "overspend", "compensated", 20)}

    def test_it_takes_its_place_and_the_tenant_is_folded_anew(self) -> None:
        world, sealed = self.world()
        eu = world.region("eu")
        book = world.book("eu")
        stable_until = book.stable_until
        eu.receive([sealed], world.now)
        assert [filed.entry.content.__class__.__name__ for filed in book.entries(BEGINNING, 100)] == [
            "Grant", "Debit", "Hold", "Capture", "Hold", "Hold",
        ]  # fmt: skip
        assert (book.stable_until, len(book.timeline), book.late_until) == (stable_until, 0, None)
        claims = {name: book.account.claim(ClaimId(name)) for name in "xabc"}
        owed = {"x": 0, "a": 0, "b": 10, "c": 20}
        assert {name: claim.debt for name, claim in claims.items() if claim is not None} == owed
        (alarm,) = eu.alarms.all()
        assert (alarm.kind, alarm.subject) == (AlarmKind.LATE, "ap/b1")
        world.put_right()
        self.check(world)

    def test_keys_and_ended_claims_are_what_they_were(self) -> None:
        world, sealed = self.world()
        world.region("eu").receive([sealed], world.now)
        account = world.book("eu").account
        for key, dot in (("kx", ("ap/b1", 1)), ("ka", ("eu/b2", 2))):
            use = account.key_use(Key(key))
            assert use is not None
            assert (use.replica, use.seq) == dot
        assert [claim.id for claim in world.book("eu").ended_claims(None, 10)] == ["a", "x"]

    def test_rows_of_what_came_to_nothing_are_gone(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100, starts=0))
        world.meet()
        world.part("ap")
        lost = [world.do("ap", debit(f"d{number}", 1), key=f"k{number}") for number in range(3)]
        page = [sealed for filed in lost if (sealed := world.region("ap").journal.sealed(*filed.dot))]
        world.do("eu", usage("ended", 10, 20, 5, final=True), key="k0")
        world.do("eu", heartbeat("running"), key="k1")
        world.do("eu", VOID_IF_SHORT, key="k2")
        world.lose_disk("ap")
        world.meet()
        world.exchange(3_000)
        assert all(world.book("eu").account.job(JobId(name)) is not None for name in ("ended", "running"))
        assert world.book("eu").is_idle
        world.region("eu").receive(page, world.now)
        world.put_right()
        world.exchange(3_000)
        for _ in range(2):
            account = world.book("eu").account
            assert [account.job(JobId(name)) for name in ("ended", "running")] == [None, None]
            assert account.policy == DEFAULT_POLICY
            assert world.audit("eu").books_equal
            world.crash("eu")

    def test_a_crash_before_it_has_landed_leaves_the_rows_as_they_were(self) -> None:
        world, sealed = self.world()
        digest = world.region("us").books.digest()
        world.region("eu").receive([sealed], world.now)
        world.region("eu").seal()
        world.crash("eu")
        assert world.region("eu").books.digest() == digest
        assert world.audit("eu").books_equal
        world.region("eu").receive([sealed], world.now)
        world.land("eu")
        world.put_right()
        self.check(world)

    def test_a_crash_after_it_has_landed_finds_rows_and_journal_of_one_mind(self) -> None:
        world, sealed = self.world()
        world.region("eu").receive([sealed], world.now)
        world.land("eu")
        digest = world.region("eu").books.digest()
        world.crash("eu")
        assert world.region("eu").books.digest() == digest
        assert world.region("eu").alarms.all() == []
        assert world.region("eu").unsettled_count == 1, "b and c are short, and c is ours to put right"
        world.put_right()
        self.check(world)

    def test_what_was_put_right_before_stays_put_right_and_only_the_rest_is_posted(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        lost = world.do("ap", debit("x", 5))
        sealed = world.region("ap").journal.sealed(*lost.dot)
        assert sealed is not None
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.lose_disk("ap")
        world.put_right()
        world.exchange(2_000)
        (before,) = world.reports("us")
        assert [amends.postings for amends in before.compensations] == [{"lot/L": 60, "debt": -60}]
        assert world.book("us").is_idle
        world.region("us").receive([sealed], world.now)
        world.land("us")
        (between,) = world.reports("us")
        assert (between.id, between.state, between.debt) == (before.id, "detected", 65)
        assert (between.rival_count, between.compensations) == (2, before.compensations)
        world.put_right()
        (after,) = world.reports("eu")
        assert [amends.postings for amends in after.compensations] == [
            {"lot/L": 60, "debt": -60},
            {"lot/L": 5, "debt": -5},
        ]
        assert all(world.audit(name).books_equal for name in world.names)

    def test_a_conflict_that_it_clears_up_is_gone_if_nothing_had_been_posted(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80))
        world.meet()
        world.part()
        lost = world.do("ap", debit("x", 5), key="k")
        sealed = world.region("ap").journal.sealed(*lost.dot)
        assert sealed is not None
        world.do("eu", release("a"), key="k")
        world.do("us", renew("a", HOUR_MS // 2))
        world.lose_disk("ap")
        world.put_right()
        world.exchange(2_000)
        (lease,) = world.reports("us")
        assert (lease.kind, lease.loser.kind, lease.state) == ("lease", "renew", "compensated")
        world.region("us").receive([sealed], world.now)
        world.land("us")
        world.put_right()
        (mismatch,) = world.reports("us")
        assert (mismatch.kind, mismatch.loser.kind) == ("key_mismatch", "release")
        assert world.reports("us") == world.reports("eu")
        assert world.region("us").conflicts.report(lease.id, world.now) is None

    def test_it_does_not_hold_up_what_is_not_stable_yet(self) -> None:
        world, sealed = self.world()
        world.part()
        world.do("eu", release("c"))
        world.region("eu").receive([sealed], world.now)
        book = world.book("eu")
        assert len(book.timeline) == 1
        world.land("eu")
        world.crash("eu")
        assert len(world.book("eu").timeline) == 1
        world.put_right()
        world.exchange(2_000)
        assert world.book("eu").is_idle
        assert world.posted("us") == {"issued": -100, "used": 90, "held/b": 20, "debt": -10}
        assert all(world.audit(name).books_equal for name in world.names)


def test_a_log_for_every_boot_is_not_read_anew_for_every_loser(monkeypatch: pytest.MonkeyPatch) -> None:
    boots = 20
    world = Regions("eu", "us")
    world.do("eu", grant("L", 2 * boots))
    world.meet()
    world.part()
    for boot in range(boots):
        world.do("eu", debit(f"eu-{boot}", 1, OnShortage.DEBT))
        world.crash("eu")
    world.pass_time(HOUR_MS // 2)
    for loser in range(2 * boots):
        world.do("us", debit(f"us-{loser}", 1, OnShortage.DEBT))
    looked_up: Counter[tuple[str, int]] = Counter()
    find = Journal.find

    def counted(journal: Journal, replica: str, seq: int) -> Filed | None:
        looked_up[replica, seq] += 1
        return find(journal, replica, seq)

    monkeypatch.setattr(Journal, "find", counted)
    world.meet()
    assert max(looked_up.values()) == len(world.names), "once in each region"
    assert [report.rival_count for report in world.reports("us")] == [boots] * boots
