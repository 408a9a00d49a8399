"""Transfers, policies and jobs in whole regions: two books for one entry, rows, restarts, forgotten keys."""

from collections.abc import Callable

import pytest

from ledger.command import OnShortage, SetPolicy
from ledger.ids import ClaimId, JobId, Key, LotId, TenantId, usage_name
from ledger.job import Job
from ledger.operation import Compensation, Expire, OnOverspend, Policy, Transfer
from ledger.refusal import Reason, Refusal
from ledger.rules import Rules
from ledger.timeline import BEGINNING
from node.rebuild import mark
from node.region import Accepted
from node.store.kv import MemoryDisk, Overlay, Table
from node.store.rows import tenant_key
from replication.filed import Filed
from tests.regions import (
    HOUR_MS,
    UMBRA,
    VOID_IF_SHORT,
    Regions,
    capture,
    clash,
    debit,
    grant,
    heartbeat,
    release,
    renew,
    reserve,
    transfer,
    usage,
)
from tests.world import START_MS, TENANT

NOBODY = TenantId("nobody")


def rich(*names: str, **settings: int | Rules) -> Regions:
    """Two tenants with 100 each, known everywhere."""
    world = Regions(*names, **settings)
    for tenant in (TENANT, UMBRA):
        world.do(names[0], grant("L", 100), tenant=tenant)
    world.meet()
    return world


def name_of(filed: Filed) -> str:
    """What a transfer is called in both accounts."""
    content = filed.entry.content
    assert isinstance(content, Transfer)
    return content.name


def refused(answer: Accepted | Refusal) -> Refusal:
    """An answer that must be a refusal."""
    assert isinstance(answer, Refusal)
    return answer


def is_well(world: Regions) -> None:
    """All regions hold the same entries, make the same of them, and their books are right."""
    regions = [world.region(name) for name in world.names]
    assert all(region.clock == regions[0].clock for region in regions)
    assert len({region.books.digest() for region in regions}) == 1
    for name in world.names:
        result = world.audit(name)
        assert result.findings == []
        assert result.books_equal
        assert not world.region(name).alarms.all()


class TestTransfers:
    def test_it_is_one_entry_with_a_leg_in_each_book(self) -> None:
        world = rich("eu", "us")
        filed = world.do("eu", transfer(UMBRA, 40))
        gift = name_of(filed)
        world.meet()
        for name in world.names:
            assert world.posted(name) == {"issued": -100, "lot/L": 60, "transferred": 40}
            assert world.posted(name, UMBRA) == {"issued": -140, "lot/L": 100, f"lot/{gift}": 40}
            given, received = (world.book(name, tenant).entries(BEGINNING, 9)[-1] for tenant in (TENANT, UMBRA))
            assert given.entry == received.entry == filed.entry
            assert (given.is_receipt, received.is_receipt) == (False, True)
        assert world.region("us").clock == {"eu/b1": 3}
        is_well(world)

    def test_a_retry_in_whatever_region_gets_the_original_entry(self) -> None:
        world = rich("eu", "us")
        filed = world.do("eu", transfer(UMBRA, 40), key="gift")
        world.meet()
        for name in world.names:
            again = world.ask(name, transfer(UMBRA, 40), key="gift")
            assert isinstance(again, Accepted)
            assert (again.replayed, again.filed.entry) == (True, filed.entry)
        assert refused(world.ask("us", transfer(UMBRA, 41), key="gift")).reason is Reason.IDEMPOTENCY_MISMATCH

    def test_the_receivers_keys_are_its_own(self) -> None:
        world = rich("eu")
        world.do("eu", transfer(UMBRA, 40), key="gift")
        world.do("eu", reserve("a", 5), key="gift", tenant=UMBRA)

    def test_nobody_gives_to_itself_or_to_a_tenant_that_is_not_there(self) -> None:
        world = rich("eu")
        answer = refused(world.ask("eu", transfer(TENANT, 5)))
        assert (answer.reason, answer.fields) == (
            Reason.INVALID_REQUEST, {"field": "to", "rule": "must be another tenant"},
        )  # fmt: skip
        answer = refused(world.ask("eu", transfer(NOBODY, 5)))
        assert (answer.reason, answer.fields) == (Reason.NOT_FOUND, {"tenant": "nobody"})
        answer = refused(world.ask("eu", transfer(UMBRA, 5), tenant=NOBODY))
        assert (answer.reason, answer.fields) == (Reason.NOT_FOUND, {"tenant": "nobody"})
        assert list(world.region("eu").books.tenants()) == [TENANT, UMBRA]
        assert world.region("eu").seal() == []

    def test_a_gift_repays_what_the_receiver_owes_in_the_same_entry(self) -> None:
        world = rich("eu")
        world.do("eu", debit("d", 130, OnShortage.DEBT), tenant=UMBRA)
        assert world.region("eu").books.debts() == {UMBRA: 30}
        filed = world.do("eu", transfer(UMBRA, 40))
        assert filed.entry.received == {"issued": -40, f"lot/{name_of(filed)}": 10, "debt": 30}
        assert world.region("eu").books.debts() == {}
        is_well(world)

    def test_what_was_spent_elsewhere_is_owed_by_the_giver(self) -> None:
        world = rich("eu", "us")
        world.part()
        world.do("eu", debit("d", 80))
        world.do("us", transfer(UMBRA, 50))
        world.put_right()
        assert world.the_report().kind == "overspend"
        assert world.region("eu").books.debts() == {TENANT: 30}
        is_well(world)

    def test_one_request_accepted_in_two_regions_is_a_duplicate_in_both_accounts_and_both_are_put_right(self) -> None:
        world = rich("eu", "us")
        world.part()
        gift = name_of(world.do("eu", transfer(UMBRA, 50), key="gift"))
        world.do("us", transfer(UMBRA, 50), key="gift")
        world.put_right()
        assert [(report.tenant, report.kind, report.state) for report in world.reports("eu")] == [
            (UMBRA, "duplicate", "compensated"), (TENANT, "duplicate", "compensated"),
        ]  # fmt: skip
        assert world.posted("us") == {"issued": -100, "lot/L": 50, "transferred": 50}
        assert world.posted("us", UMBRA) == {"issued": -150, "lot/L": 100, f"lot/{gift}": 50}
        assert world.region("us").counts.conflicts == {"duplicate": 2}
        entries = [world.book("eu", tenant).entries(BEGINNING, 9)[-1].entry for tenant in (TENANT, UMBRA)]
        assert [entry.postings for entry in entries if isinstance(entry.content, Compensation)] == [
            {"lot/L": 50, "transferred": -50}, {"issued": 50, f"lot/{gift}": -50},
        ]  # fmt: skip
        is_well(world)

    def test_the_region_that_accepted_it_lets_the_new_lot_expire(self) -> None:
        world = rich("eu", "us")
        gift = name_of(world.do("us", transfer(UMBRA, 40, until=3_000)))
        world.exchange(6_000)
        expired = [
            (filed.entry.region, filed.operation)
            for filed in world.book("eu", UMBRA).entries(BEGINNING, 99)
            if isinstance(filed.operation, Expire)
        ]
        assert expired == [("us", Expire(LotId(gift)))]
        assert world.posted("eu", UMBRA) == {"issued": -140, "lot/L": 100, "expired": 40}
        is_well(world)

    def test_a_chain_of_gifts_among_regions_is_one_serial_ledger(self) -> None:
        world = rich("ap", "eu", "us")
        world.part()
        world.do("ap", transfer(UMBRA, 60))
        world.do("eu", transfer(TENANT, 70), tenant=UMBRA)
        world.do("us", debit("d", 100))
        world.do("us", debit("d", 90), tenant=UMBRA)
        world.put_right()
        assert world.region("eu").books.debts() == {}, "what each gave came round to the other"
        is_well(world)
        assert world.posted("ap")["transferred"] == 60

    def test_what_is_too_long_for_an_entry_leaves_nothing_in_either_account(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ledger.admission.MAX_OPEN_LOTS", 10_000)
        world = rich("eu")
        region = world.region("eu")
        for number in range(2_000):
            region.submit(TENANT, grant(f"{number:0128}", 1), Key(f"g{number}"), world.now)
        world.land("eu")
        digest, clock = region.books.digest(), dict(region.clock)
        answer = refused(world.ask("eu", transfer(UMBRA, 2_100), key="gift"))
        assert answer.fields["field"] == "amount"
        assert (region.books.digest(), region.clock, region.seal()) == (digest, clock, [])
        world.do("eu", transfer(UMBRA, 1_000), key="gift")
        assert world.audit("eu").ok


class TestAVoidReservation:
    def world(self) -> Regions:
        """us reserved what eu had reserved earlier, and policy makes it void; the regions have met."""
        return clash([grant("L", 100), VOID_IF_SHORT], [reserve("a", 80)], [reserve("b", 80)])

    def test_its_renewal_is_refused_in_every_region_with_the_conflict_which_is_there(self) -> None:
        world = self.world()
        for later_ms in (0, 2_000, 3_000):
            world.exchange(later_ms)
            for name in world.names:
                answer = refused(world.ask(name, renew("b", 1_000)))
                assert (answer.reason, answer.fields) == (
                    Reason.RESERVATION_ENDED,
                    {"reservation": "b", "state": "revoked", "captured": 0, "conflict": "us.b2.1.revoked"},
                )
                report = world.region(name).conflicts.report("us.b2.1.revoked", world.now)
                assert report is not None
                assert report.loser.claim == "b"

    def test_so_is_its_release(self) -> None:
        assert refused(self.world().ask("us", release("b"))).fields["conflict"] == "us.b2.1.revoked"

    def test_one_that_has_ended_otherwise_names_no_conflict(self) -> None:
        world = self.world()
        world.do("eu", release("a"))
        assert refused(world.ask("eu", renew("a", 1_000))).fields == {
            "reservation": "a", "state": "closed", "captured": 0,
        }  # fmt: skip

    def test_a_heartbeat_is_heard_and_comes_to_nothing(self) -> None:
        filed = self.world().do("us", heartbeat("train", claim="b"))
        assert filed.outcome == "closed"
        assert filed.entry.result is not None
        assert filed.entry.result.state == "revoked"

    def test_what_is_captured_on_it_is_an_overrun(self) -> None:
        world = self.world()
        world.do("us", capture("b", 30))
        world.put_right()
        assert world.posted("eu") == {"issued": -100, "held/a": 80, "used": 30, "debt": -10}
        is_well(world)

    def test_it_does_not_lapse(self) -> None:
        world = clash([grant("L", 100), VOID_IF_SHORT], [reserve("a", 80)], [reserve("b", 80, lease_ms=1_000)])
        world.put_right()
        world.exchange(3_000)
        assert world.region("us").counts.lapsed == 0
        is_well(world)


def everything() -> Regions:
    """Jobs running and finished, policies, transfers and their conflicts."""
    world = rich("eu", "us")
    world.do("eu", SetPolicy(OnOverspend.REVOKE, max_held=90))
    world.do("eu", reserve("a", 30, job="train"))
    world.do("eu", heartbeat("train", started=True))
    world.do("us", transfer(UMBRA, 10), key="first")
    world.meet()
    world.part()
    for name in world.names:
        world.do(name, usage("train", 500, 900, 7))
        world.do(name, usage("bare", 600, 800, 3, final=True))
        world.do(name, transfer(UMBRA, 20), key="gift")
    world.do("eu", reserve("b", 25))
    world.do("us", reserve("c", 25))
    world.do("us", SetPolicy(OnOverspend.DEBT, max_held=80), tenant=UMBRA)
    world.put_right()
    return world


def known(world: Regions, name: str) -> object:
    """All that can be asked of what there is in `everything`."""
    account = world.book(name).account
    return (
        world.region(name).books.digest(),
        account.policy,
        world.book(name, UMBRA).account.policy,
        [account.job(JobId(job)) for job in ("train", "bare", "nobody")],
        [account.claim(ClaimId(claim)) for claim in ("a", "b", "c", usage_name(JobId("bare")))],
        dict(account.lots),
        account.key_use(Key("gift")),
        world.reports(name),
    )


def restarted(world: Regions) -> None:
    world.crash("eu")


def rebuilt(world: Regions) -> None:
    mark(world.members["eu"].disk.write, "on purpose")
    world.crash("eu")


class TestRows:
    def test_there_is_something_of_everything(self) -> None:
        world = everything()
        kinds = sorted({report.kind.value for report in world.reports("eu")})
        assert kinds == ["duplicate", "overlap", "revoked"]
        account = world.book("eu").account
        assert account.policy == Policy(OnOverspend.REVOKE, max_held=90)
        train = account.job(JobId("train"))
        assert train is not None
        assert (train.claim, train.charged, train.finished_at, train.started_at is None) == ("a", 7, None, False)
        is_well(world)

    @pytest.mark.parametrize("again", [restarted, rebuilt])
    @pytest.mark.parametrize("checkpointed", [True, False])
    def test_a_start_finds_jobs_policies_and_transfers_as_they_were(
        self, again: Callable[[Regions], None], checkpointed: bool
    ) -> None:
        world = everything()
        if checkpointed:
            world.exchange(3_000)
            assert all(world.book("eu", tenant).is_idle for tenant in (TENANT, UMBRA))
        before = known(world, "eu")
        again(world)
        assert known(world, "eu") == before
        world.exchange()
        assert known(world, "us") == before
        assert world.audit("eu").findings == []
        world.do("eu", usage("train", 850, 950, 100))
        job = world.book("eu").account.job(JobId("train"))
        assert job is not None
        assert (job.covered[-1][1] - job.covered[0][0], job.charged) == (450, 57)

    def test_jobs_that_run_and_jobs_that_have_finished_lie_apart(self) -> None:
        world = everything()
        world.exchange(3_000)
        overlay = Overlay(world.members["eu"].disk)
        assert overlay.get(Table.RUNNING, tenant_key(TENANT, "train")) is not None
        assert overlay.get(Table.RESTING, tenant_key(TENANT, "bare")) is not None
        world.do("eu", usage("train", 900, 950, 5, final=True))
        world.exchange(3_000)
        assert overlay.get(Table.RUNNING, tenant_key(TENANT, "train")) is None
        assert overlay.get(Table.RESTING, tenant_key(TENANT, "train")) is not None
        assert world.audit("eu").ok

    def test_every_policy_has_a_row_and_the_last_is_the_rule(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        for most in (5, 6, 7):
            world.do("eu", SetPolicy(max_held=most))
        world.exchange(2_000)
        rows = Overlay(world.members["eu"].disk).scan(Table.POLICIES, b"", None, 10)
        assert len(rows) == 3
        world.crash("eu")
        assert world.book("eu").account.policy == Policy(max_held=7)

    def test_a_job_of_any_name_has_a_row(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        names = ["j" * 255, "ü" * 255, "a/b c", "ü" * 254 + "x"]
        for name in names:
            world.do("eu", heartbeat(name))
        before = [world.book("eu").account.job(JobId(name)) for name in names]
        world.exchange(2_000)
        world.crash("eu")
        assert [world.book("eu").account.job(JobId(name)) for name in names] == before
        assert all(isinstance(job, Job) for job in before)
        assert world.audit("eu").ok

    @pytest.mark.parametrize("first", [TENANT, UMBRA])
    def test_one_leg_can_be_checkpointed_before_the_other(self, first: TenantId) -> None:
        world = rich("eu", "us")
        world.exchange(2_000)
        world.part()
        gift = name_of(world.do("eu", transfer(UMBRA, 40)))
        assert len(world.book("eu", first).checkpoint(2**62, 9)) == 1
        world.land("eu")
        digest = world.region("eu").books.digest()
        world.crash("eu")
        assert world.region("eu").books.digest() == digest
        (other,) = {TENANT, UMBRA} - {first}
        assert [len(world.book("eu", tenant).timeline) for tenant in (first, other)] == [0, 1]
        world.meet()
        world.exchange(3_000)
        assert world.posted("us", UMBRA)[f"lot/{gift}"] == 40
        is_well(world)


class TestForgottenKeys:
    RULES = Rules(key_lifetime_ms=10_000)

    def keys(self, world: Regions, name: str) -> list[str]:
        """The keys that have rows."""
        rows = Overlay(world.members[name].disk).scan(Table.KEYS, b"", None, 1_000)
        return [key.partition(b"\0")[2].decode() for key, _ in rows]

    def test_they_leave_the_rows_when_their_lifetime_is_over_and_the_audit_stays_well(self) -> None:
        world = rich("eu", "us", rules=self.RULES)
        world.do("eu", reserve("a", 5), key="k")
        world.do("eu", transfer(UMBRA, 5), key="gift")
        world.exchange(3_000)
        assert {"k", "gift"} <= set(self.keys(world, "eu"))
        world.exchange(11_000)
        for name in world.names:
            assert self.keys(world, name) == []
            assert world.region(name).counts.forgotten == 4
        is_well(world)

    def test_a_key_that_is_forgotten_can_be_used_again_and_what_it_had_named_stays_taken(self) -> None:
        world = rich("eu", rules=self.RULES)
        world.do("eu", reserve(None, 5), key="k")
        world.do("eu", transfer(UMBRA, 5), key="gift")
        for command, key in ((reserve(None, 5), "k"), (transfer(UMBRA, 5), "gift")):
            answer = world.ask("eu", command, key=key)
            assert isinstance(answer, Accepted)
            assert answer.replayed
        world.exchange(14_000)
        assert refused(world.ask("eu", reserve(None, 5), key="k")).reason is Reason.ALREADY_EXISTS
        assert refused(world.ask("eu", transfer(UMBRA, 5), key="gift")).reason is Reason.ALREADY_EXISTS
        world.do("eu", debit("d", 5), key="k")
        world.do("eu", reserve("b", 5), key="gift")
        is_well(world)

    def test_a_region_that_is_away_keeps_them_with_the_others(self) -> None:
        world = rich("eu", "us", rules=self.RULES)
        world.do("eu", reserve("a", 5), key="k")
        world.exchange(2_000)
        world.part()
        world.exchange(20_000)
        assert "k" in self.keys(world, "eu"), "an operation of us from that time may still come"
        world.meet()
        world.exchange(2_000)
        assert self.keys(world, "eu") == self.keys(world, "us") == []

    def test_one_that_was_used_twice_is_kept_for_as_long_as_its_second_use(self) -> None:
        world = rich("eu", rules=self.RULES)
        world.do("eu", reserve("a", 5), key="k")
        world.exchange(10_000)
        world.do("eu", reserve("b", 5), key="k")
        world.exchange(8_000)
        assert "k" in self.keys(world, "eu")
        world.exchange(4_000)
        assert "k" not in self.keys(world, "eu")
        is_well(world)

    def test_a_key_is_kept_for_what_has_to_be_folded_again_after_a_restart(self) -> None:
        world = rich("eu", "us", rules=Rules(key_lifetime_ms=4_000), checkpoint_after_ms=5_000)
        world.part()
        world.do("eu", reserve("a", 5), key="k")
        world.exchange(3_800)
        world.do("us", debit("d", 5), key="k")
        world.meet()
        world.exchange(1_000)
        assert "k" in self.keys(world, "eu"), "its first use is checkpointed, its second is not"
        assert world.region("eu").frontier >> 16 > START_MS + 5_000
        digest = world.region("eu").books.digest()
        world.crash("eu")
        assert world.region("eu").books.digest() == digest
        assert world.book("eu").account.totals["used"] == 0

    def test_all_regions_forget_alike_whatever_they_have_in_memory(self) -> None:
        world = rich("eu", "us", rules=self.RULES)
        world.do("eu", reserve("a", 5), key="k")
        world.exchange(3_000)
        world.part()
        world.exchange(8_000)
        world.do("us", debit("d", 5), key="k")
        world.crash("us")
        world.put_right()
        assert [report.kind for report in world.reports("eu")] == []
        assert world.book("eu").account.key_use(Key("k")) == world.book("us").account.key_use(Key("k"))
        is_well(world)


def disk_of(world: Regions, name: str) -> MemoryDisk:
    disk = world.members[name].disk
    assert isinstance(disk, MemoryDisk)
    return disk


class TestConflictsOfOneTenant:
    def test_they_are_listed_through_its_own_rows(self) -> None:
        world = rich("eu", "us")
        world.part()
        for number in range(3):
            for name in world.names:
                world.do(name, transfer(UMBRA, 10), key=f"gift{number}")
        world.put_right()
        world.exchange(3_000)
        assert all(world.book(name, tenant).is_idle for name in world.names for tenant in (TENANT, UMBRA))
        every = world.reports("eu")
        assert len(every) == 6
        for tenant in (TENANT, UMBRA, NOBODY):
            assert world.reports("eu", tenant) == [report for report in every if report.tenant == tenant]
        rows = disk_of(world, "eu").scan(Table.CONFLICT_ORDER, b"", None, 100)
        disk_of(world, "eu").write([(Table.CONFLICT_ORDER, key, None) for key, _ in rows])
        assert len(world.reports("eu", UMBRA)) == 3, "the order of all is not looked at for one"
        assert world.reports("eu") == []

    def test_a_place_goes_on_behind_both_conflicts_of_one_transfer(self) -> None:
        world = rich("eu", "us")
        world.part()
        for name in world.names:
            world.do(name, transfer(UMBRA, 10), key="gift")
        world.put_right()
        for later_ms in (0, 3_000):
            world.exchange(later_ms)
            received, given = world.reports("us")
            assert (received.tenant, given.tenant) == (UMBRA, TENANT)
            place = next(
                filed.position
                for filed in world.book("us").entries(BEGINNING, 99)
                if filed.dot == (given.loser.replica, given.loser.seq)
            )
            for tenant in (None, TENANT, UMBRA):
                assert list(world.region("us").conflicts.reports(tenant, place, world.now)) == []


def test_renewals_by_heartbeat_keep_a_reservation_as_those_by_request_do() -> None:
    world = Regions("eu")
    world.do("eu", grant("L", 100))
    world.do("eu", reserve("a", 80, lease_ms=1_000, job="train"))
    for _ in range(5):
        world.exchange(800)
        world.do("eu", heartbeat("train", lease_ms=1_000))
    assert world.region("eu").counts.lapsed == 0
    world.exchange(1_200)
    assert world.region("eu").counts.lapsed == 1
    world.do("eu", heartbeat("train", lease_ms=HOUR_MS))
    claim = world.book("eu").account.claim(ClaimId("a"))
    assert claim is not None
    assert claim.state == "lapsed"
