"""The audit against disks that were tampered with, and against books that are only not put right yet."""

from collections.abc import Callable

import pytest
from msgspec import structs

from conflict.detect import Canonical
from ledger.command import OnShortage
from ledger.ids import JobId, TenantId
from ledger.posting import DEBT, Outcome
from node.audit import AuditResult, LogAudit, audit, canonical_books
from node.snapshots import JobState, ScheduledJob
from node.store.kv import MemoryDisk, Overlay, Table, checked
from node.store.rows import (
    decode_claim,
    decode_job,
    decode_key_use,
    decode_lot,
    encode_value,
    number_key,
    pack,
    tenant_key,
    unpack,
)
from tests.regions import Regions, capture, clash, debit, grant, release, reserve, usage
from tests.world import TENANT


def at_rest() -> Regions:
    """One region; six commits; everything is checkpointed: rows of every table that a start reads."""
    world = Regions("eu")
    world.do("eu", grant("L", 100))
    world.do("eu", reserve("a", 80), key="ka")
    world.do("eu", capture("a", 30, final=True))
    world.do("eu", reserve("b", 10))
    world.do("eu", debit("c", 100, OnShortage.DEBT))
    world.do("eu", grant("M", 45))
    world.exchange(2_000)
    assert world.book("eu").is_idle
    return world


def tampered(tamper: Callable[[MemoryDisk], None]) -> AuditResult:
    """What the audit says after `tamper` and a restart."""
    world = at_rest()
    tamper(world.members["eu"].disk)
    world.crash("eu")
    return world.audit("eu")


def row(disk: MemoryDisk, table: Table, name: str) -> bytes:
    value = Overlay(disk).get(table, tenant_key(TENANT, name))
    assert value is not None
    return value


def put(disk: MemoryDisk, table: Table, key: bytes, value: bytes) -> None:
    """Write a row as a node at fault would: with the checksum that belongs to it."""
    disk.write([(table, key, checked(table, key, value))])


def flip(disk: MemoryDisk, commit: int, byte: int) -> None:
    disk.damage(Table.LOG, number_key(commit), 8 * byte)


class TestWhenAllIsWell:
    def test_it_counts_everything_and_finds_nothing(self) -> None:
        result = at_rest().audit("eu")
        assert result == AuditResult(6, 1, 0, {"eu/b1": LogAudit("eu/b1", 6)}, [])
        assert result.ok
        assert result.books_equal

    def test_the_books_are_what_the_account_says(self) -> None:
        world = at_rest()
        books = canonical_books(world.book("eu").account)
        assert books == world.posted("eu")
        assert books == {"issued": -145, "used": 130, "held/b": 10, "lot/M": 5}

    def test_a_region_without_entries_is_in_order(self) -> None:
        assert Regions("eu").audit("eu") == AuditResult()

    def test_logs_of_all_regions_and_boots_are_followed(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        world.crash("us")
        world.put_right()
        for name in world.names:
            result = world.audit(name)
            assert result.books_equal
            assert {log.replica: log.entries for log in result.logs.values()} == {"eu/b1": 2, "us/b2": 1, "us/b3": 1}

    def test_entries_that_are_not_durable_yet_are_no_finding(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        world.ask("eu", reserve("a", 10))
        world.region("eu").seal()
        world.ask("eu", reserve("b", 10))
        result = world.audit("eu")
        assert result.ok
        assert result.entries == 1

    def test_after_a_restart_it_says_the_same(self) -> None:
        assert tampered(lambda _: None).ok


class TestBooksThatAreNotPutRightYet:
    def test_they_are_counted_and_are_no_finding(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        for name in world.names:
            result = world.audit(name)
            assert (result.findings, result.unsettled_tenants, result.books_equal) == ([], 1, False)
        world.put_right()
        for name in world.names:
            result = world.audit(name)
            assert (result.unsettled_tenants, result.books_equal) == (0, True)

    def test_what_has_only_just_come_in_is_looked_at_first(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.set_cut("eu", "us", False)
        world.exchange()
        assert world.book("us").contests == {}
        result = world.audit("us")
        assert (result.findings, result.unsettled_tenants) == ([], 1)

    def test_books_that_differ_although_nothing_is_due_are_a_finding(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        book = world.book("us")
        book.review()
        (contest,) = book.contests.values()
        contest.canonical = Canonical(contest.loser.postings, Outcome.APPLIED, None, 0)
        assert world.audit("us").findings == ["tenant acme: the books are not canonical state, and nothing is due"]


class TestAJournalThatWasDamaged:
    def test_every_flipped_bit_is_found_while_the_node_runs(self) -> None:
        world = at_rest()
        flip(world.members["eu"].disk, 3, 100)
        flip(world.members["eu"].disk, 5, 100)
        result = world.audit("eu")
        assert [finding.partition(":")[0] for finding in result.findings] == [
            "commit 3 of the journal is not what was written",
            "commit 5 of the journal is not what was written",
        ]
        assert result.logs == {"eu/b1": LogAudit("eu/b1", 4, ok=False)}

    def test_a_tenant_whose_entry_is_damaged_cannot_be_audited(self) -> None:
        findings = tampered(lambda disk: flip(disk, 3, 100)).findings
        assert findings[0].startswith("commit 3 of the journal is not what was written")
        assert findings[1].startswith("tenant acme cannot be audited: commit 3 of the journal is not what was written")

    def test_a_missing_commit_is_named(self) -> None:
        assert tampered(lambda disk: disk.write([(Table.LOG, number_key(3), None)])).findings == [
            "commit 3 of the journal is not what was written: it is not there",
            "tenant acme cannot be audited: commit 3 of the journal is not what was written: it is not there",
        ]

    def test_a_commit_put_in_place_of_another_does_not_follow(self) -> None:
        def swap(disk: MemoryDisk) -> None:
            second = Overlay(disk).get(Table.LOG, number_key(2))
            assert second is not None
            put(disk, Table.LOG, number_key(3), second)

        assert tampered(swap).findings[:2] == [
            "log eu/b1: the index does not lead to entry 2",
            "log eu/b1 at 2: eu/b1 is at 2 already",
        ]

    def test_a_clock_beside_the_entries_that_says_more_than_they_do_is_found(self) -> None:
        def claim_to_know(disk: MemoryDisk) -> None:
            value = Overlay(disk).get(Table.LOG, number_key(6))
            assert value is not None
            ((replica, seq, _, entries),) = unpack(value)
            put(disk, Table.LOG, number_key(6), pack([[replica, seq, {"us/b2": 1}, entries]]))

        assert tampered(claim_to_know).findings == ["log eu/b1 at 6: its clock is not what it had seen"]


STATE = "tenant acme: the state in use is not what its entries come to"


class TestRowsThatAreWrong:
    def test_a_lot_with_more_left(self) -> None:
        def more(disk: MemoryDisk) -> None:
            lot = decode_lot(row(disk, Table.LOTS, "M"))
            richer = encode_value(lot.with_remaining(lot.remaining + 1))
            put(disk, Table.LOTS, tenant_key(TENANT, "M"), richer)

        assert tampered(more).findings == [STATE]

    @pytest.mark.parametrize(("table", "name"), [(Table.LOTS, "M"), (Table.OPEN, "b")])
    def test_a_lot_or_an_open_reservation_that_is_missing(self, table: Table, name: str) -> None:
        assert tampered(lambda disk: disk.write([(table, tenant_key(TENANT, name), None)])).findings == [STATE]

    def test_a_reservation_that_is_said_to_be_open_still(self) -> None:
        def reopen(disk: MemoryDisk) -> None:
            claim = row(disk, Table.OPEN, "b").replace(b"\xa1b", b"\xa1x", 1)
            assert decode_claim(claim).id == "x"
            put(disk, Table.OPEN, tenant_key(TENANT, "x"), claim)

        assert tampered(reopen).findings == [STATE]

    def test_totals_that_hide_debt(self) -> None:
        def hide(disk: MemoryDisk) -> None:
            place, totals, count = unpack(row(disk, Table.STATES, ""))
            totals[1] = str(int(totals[1]) - 1)
            put(disk, Table.STATES, tenant_key(TENANT), pack([place, totals, count]))

        assert tampered(hide).findings == [STATE]

    def test_a_reservation_that_has_ended_and_is_missing(self) -> None:
        assert tampered(lambda disk: disk.write([(Table.CLOSED, tenant_key(TENANT, "a"), None)])).findings == [
            "tenant acme: the claim a is not what its entries come to"
        ]

    @pytest.mark.parametrize(("table", "job"), [(Table.RUNNING, "running"), (Table.RESTING, "ended")])
    def test_a_job_that_is_missing_or_was_charged_more(self, table: Table, job: str) -> None:
        key = tenant_key(TENANT, job)

        def charge_more(disk: MemoryDisk) -> None:
            known = decode_job(row(disk, table, job))
            put(disk, table, key, encode_value(structs.replace(known, charged=known.charged + 1)))

        for tamper in (charge_more, lambda disk: disk.write([(table, key, None)])):
            world = Regions("eu")
            world.do("eu", grant("L", 100, starts=0))
            world.do("eu", usage("running", 10, 20, 5))
            world.do("eu", usage("ended", 10, 20, 5, final=True))
            world.exchange(2_000)
            assert world.audit("eu").findings == []
            tamper(world.members["eu"].disk)
            world.crash("eu")
            assert world.audit("eu").findings == [f"tenant acme: the job {job} is not what its entries come to"]

    def test_a_reservation_that_has_ended_and_is_said_to_have_used_more(self) -> None:
        def use_more(disk: MemoryDisk) -> None:
            claim = row(disk, Table.CLOSED, "a").replace(bytes([30]), bytes([31]))
            assert decode_claim(claim).used_total == 31
            put(disk, Table.CLOSED, tenant_key(TENANT, "a"), claim)

        assert tampered(use_more).findings == ["tenant acme: the claim a is not what its entries come to"]

    def test_a_key_that_was_forgotten(self) -> None:
        assert tampered(lambda disk: disk.write([(Table.KEYS, tenant_key(TENANT, "ka"), None)])).findings == [
            "tenant acme: the key ka does not lead to the operation that used it first"
        ]

    def test_a_key_that_leads_to_another_entry(self) -> None:
        def mislead(disk: MemoryDisk) -> None:
            use = decode_key_use(row(disk, Table.KEYS, "ka"))
            assert (use.replica, use.seq) == ("eu/b1", 2)
            put(disk, Table.KEYS, tenant_key(TENANT, "ka"), pack(["eu/b1", 3, use.request, use.at]))

        assert tampered(mislead).findings == [
            "tenant acme: the key ka does not lead to the operation that used it first"
        ]

    def test_a_history_that_is_missing(self) -> None:
        def forget(disk: MemoryDisk) -> None:
            disk.write([(Table.HISTORY, key, None) for key, _ in disk.scan(Table.HISTORY, b"", None, 100)])

        assert tampered(forget).findings == ["tenant acme: 6 entries counted, 0 found"]

    def test_a_tenant_that_is_missing_altogether(self) -> None:
        result = tampered(lambda disk: disk.write([(Table.STATES, tenant_key(TENANT), None)]))
        assert result.findings == ["tenant acme: the journal has entries, but there is no book"]

    def test_a_snapshot_that_cannot_be_read(self) -> None:
        world = at_rest()
        world.region("eu").take_snapshot("slurm", 5, {TENANT: [ScheduledJob(JobId("j"), JobState.RUNNING)]})
        world.land("eu")
        assert world.audit("eu").ok
        world.members["eu"].disk.damage(Table.SNAPSHOTS, tenant_key("slurm", TENANT), 7)
        (finding,) = world.audit("eu").findings
        assert finding.startswith(
            "the snapshots of schedulers cannot be read: the row slurm·acme of the table snapshots"
        )


class TestInSlices:
    def test_an_entry_that_comes_in_meanwhile_starts_the_tenant_again(self) -> None:
        world = at_rest()
        result = AuditResult()
        slices = audit(world.region("eu"), world.now, result)
        next(slices)
        world.do("eu", release("b"))
        for _ in slices:
            pass
        assert result.findings == []
        assert result.tenants == 1

    def test_a_tenant_that_never_holds_still_is_folded_in_one_go(self) -> None:
        world = at_rest()
        result = AuditResult()
        for number, _ in enumerate(audit(world.region("eu"), world.now, result)):
            world.do("eu", debit(f"d{number}", 1, OnShortage.DEBT))
            assert number < 100
        assert result.findings == []
        assert result.tenants == 1

    def test_a_large_tenant_that_never_holds_still_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("node.audit._AT_ONCE_ENTRIES", 5)
        world = at_rest()
        result = AuditResult()
        for number, _ in enumerate(audit(world.region("eu"), world.now, result)):
            world.do("eu", debit(f"d{number}", 1, OnShortage.DEBT))
            assert number < 100
        assert result.findings == ["tenant acme was too busy to be audited; audit again when it is quieter"]

    def test_books_that_are_dropped_from_memory_meanwhile_are_read_back(self) -> None:
        world = Regions("eu", tenants_in_memory=0)
        other = TenantId("globex")
        for tenant in (TENANT, other):
            world.do("eu", grant("L", 10), tenant=tenant)
            world.do("eu", debit("d", 15, OnShortage.DEBT), tenant=tenant)
        world.exchange(2_000)
        result = AuditResult()
        for _ in audit(world.region("eu"), world.now, result):
            world.exchange(2_000)
            assert world.region("eu").books.in_memory == {}
        assert (result.findings, result.tenants, result.books_equal) == ([], 2, True)
        assert world.book("eu", other).account.totals[DEBT] == -5
