"""One region as its clients and its clock see it: keys, sweeps, one round of compensation, what a crash leaves."""

import pytest

from conflict.detect import Canonical
from ledger.command import OnShortage
from ledger.ids import ClaimId, Key, LotId, TenantId
from ledger.operation import Compensation, Content, Expire, Lapse, Settle
from ledger.posting import Outcome
from ledger.refusal import Reason, Refusal
from ledger.timeline import BEGINNING
from node.alarms import AlarmKind
from node.region import Accepted
from node.store.errors import ForeignDirectory
from node.store.kv import Overlay, Table, Write, checked
from node.store.rows import CEILING, LOW, RULES_KEY, number_key, pack, unpack
from replication.clock import hlc_at, ms_of
from replication.entry import MAX_SEALED_BYTES
from tests.regions import (
    HOUR_MS,
    VOID_IF_SHORT,
    Regions,
    capture,
    clash,
    debit,
    grant,
    refund,
    release,
    renew,
    reserve,
    revoke,
)
from tests.world import START_MS, TENANT

OTHER = TenantId("globex")


def contents(world: Regions, name: str, sort: type[Content], tenant: TenantId = TENANT) -> list[tuple[str, Content]]:
    """The entries of a tenant whose content is of one sort, in canonical order, with the region that accepted each."""
    entries = world.book(name, tenant).entries(BEGINNING, 100_000)
    return [(filed.entry.region, filed.entry.content) for filed in entries if isinstance(filed.entry.content, sort)]


def claim_state(world: Regions, name: str, claim: str) -> str:
    """What a region makes of a claim."""
    found = world.book(name).account.claim(ClaimId(claim))
    assert found is not None
    return found.state


def low_of(world: Regions, name: str) -> int:
    """The commit up to which a start reads rows instead of the journal."""
    stored = Overlay(world.members[name].disk).get(Table.META, LOW)
    return 0 if stored is None else int(unpack(stored)[0])


class TestKeys:
    def test_a_retry_gets_the_original_entry_and_makes_none(self) -> None:
        world = Regions("eu")
        first = world.do("eu", grant("L", 100), key="k")
        again = world.ask("eu", grant("L", 100), key="k")
        assert again == Accepted(first, replayed=True)
        assert world.region("eu").seal() == []

    def test_a_retry_before_the_first_try_is_durable_gets_the_same_entry(self) -> None:
        world = Regions("eu")
        first = world.ask("eu", grant("L", 100), key="k")
        again = world.ask("eu", grant("L", 100), key="k")
        assert isinstance(first, Accepted)
        assert again == Accepted(first.filed, replayed=True)
        world.land("eu")
        assert world.region("eu").durable == {"eu/b1": 1}

    def test_a_retry_in_another_region_gets_the_entry_of_the_first(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        first = world.do("eu", reserve(None, 30), key="job")
        world.meet()
        again = world.ask("us", reserve(None, 30), key="job")
        assert isinstance(again, Accepted)
        assert again.replayed
        assert again.filed.entry == first.entry

    def test_a_retry_after_checkpoint_and_restart_gets_the_original_entry(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        first = world.do("eu", reserve("a", 30), key="job")
        world.do("eu", capture("a", 30, final=True))
        world.exchange(2_000)
        assert world.book("eu").is_idle
        world.crash("eu")
        again = world.ask("eu", reserve("a", 30), key="job")
        assert isinstance(again, Accepted)
        assert again.filed.entry == first.entry
        assert again.filed.clock == first.clock == {"eu/b1": 2}

    def test_one_key_for_two_requests_is_refused(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100), key="k")
        answer = world.ask("eu", grant("L", 101), key="k")
        assert isinstance(answer, Refusal)
        assert (answer.reason, answer.fields) == (Reason.IDEMPOTENCY_MISMATCH, {"key": "k"})

    def test_a_refusal_leaves_the_key_free(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 10))
        refused = world.ask("eu", reserve("a", 30), key="k")
        assert isinstance(refused, Refusal)
        assert refused.reason is Reason.INSUFFICIENT_CREDIT
        world.do("eu", grant("M", 20))
        world.do("eu", reserve("a", 30), key="k")

    def test_keys_of_one_tenant_are_nothing_to_another(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 10), key="k")
        world.do("eu", grant("M", 20), key="k", tenant=OTHER)
        assert world.posted("eu", OTHER) == {"issued": -20, "lot/M": 20}


class TestTenants:
    def test_a_tenant_begins_with_a_grant(self) -> None:
        world = Regions("eu")
        answer = world.ask("eu", reserve("a", 30))
        assert isinstance(answer, Refusal)
        assert (answer.reason, answer.fields) == (Reason.NOT_FOUND, {"tenant": "acme"})
        assert world.region("eu").books.existing(TENANT, world.now) is None
        assert list(world.region("eu").books.tenants()) == []

    def test_all_are_listed_by_name_in_memory_or_not(self) -> None:
        world = Regions("eu", tenants_in_memory=1)
        for name in ("zeta", "alpha", "mid"):
            world.do("eu", grant("L", 1), tenant=TenantId(name))
        world.exchange(2_000)
        world.do("eu", grant("M", 1), tenant=TenantId("beta"))
        world.do("eu", grant("M", 1), tenant=TenantId("mid"))
        assert list(world.region("eu").books.tenants()) == ["alpha", "beta", "mid", "zeta"]

    def test_what_each_owes_is_known_also_after_a_restart(self) -> None:
        world = Regions("eu", tenants_in_memory=1)
        for name, owed in ((TENANT, 7), (OTHER, 9)):
            world.do("eu", grant("L", 1), tenant=name)
            world.do("eu", debit("d", 1 + owed, OnShortage.DEBT), tenant=name)
        assert world.region("eu").books.debts() == {TENANT: 7, OTHER: 9}
        world.exchange(2_000)
        world.crash("eu")
        assert world.region("eu").books.debts() == {TENANT: 7, OTHER: 9}
        world.do("eu", grant("M", 20), tenant=OTHER)
        assert list(world.region("eu").books.debts()) == [TENANT]


class TestLapses:
    def test_a_lease_that_ends_gives_back_what_is_held(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        until = world.now + 1_000
        world.exchange(900)
        assert contents(world, "eu", Lapse) == []
        world.exchange(100)
        assert contents(world, "eu", Lapse) == [("eu", Lapse(ClaimId("a"), until))]
        assert world.region("eu").counts.lapsed == 1
        assert world.posted("eu") == {"issued": -100, "lot/L": 100}

    def test_a_heartbeat_puts_it_off(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        world.exchange(500)
        world.do("eu", renew("a", 1_000))
        world.exchange(900)
        assert contents(world, "eu", Lapse) == []
        world.exchange(100)
        assert len(contents(world, "eu", Lapse)) == 1

    def test_any_number_of_heartbeats_is_one_thing_to_look_at(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        for _ in range(30):
            world.exchange(300)
            world.do("eu", renew("a", 1_000))
        assert len(world.region("eu").duties) == 2, "the lot's expiry and the lease"

    def test_a_reservation_that_has_ended_does_not_lapse(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        world.do("eu", release("a"))
        world.exchange(2_000)
        assert contents(world, "eu", Lapse) == []

    def test_no_other_region_lets_it_lapse(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        world.meet()
        world.part()
        world.exchange(2_000)
        assert contents(world, "us", Lapse) == []
        assert [region for region, _ in contents(world, "eu", Lapse)] == ["eu"]

    def test_a_region_that_only_renewed_it_does_not_let_it_lapse_either(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        world.meet()
        world.do("us", renew("a", 1_000))
        world.meet()
        world.part()
        world.exchange(2_000)
        assert contents(world, "us", Lapse) == []
        world.put_right()
        assert [region for region, _ in contents(world, "us", Lapse)] == ["eu"]
        assert world.reports("us") == []

    def test_a_reservation_that_a_heartbeat_has_saved_from_the_sweep_lapses_when_its_new_lease_ends(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        world.meet()
        world.part()
        renewed_at = world.now + 1
        world.do("us", renew("a", 5_000))
        world.exchange(1_000)
        assert len(contents(world, "eu", Lapse)) == 1
        world.put_right()
        assert world.posted("eu") == {"issued": -100, "lot/L": 20, "held/a": 80}
        world.exchange(6_000)
        (_, first), (region, second) = contents(world, "us", Lapse)
        assert isinstance(first, Lapse)
        assert isinstance(second, Lapse)
        assert region == "eu"
        assert first.at < renewed_at + 5_000 <= second.at < renewed_at + 5_200
        assert world.posted("us") == {"issued": -100, "lot/L": 100}
        assert [report.loser.kind for report in world.reports("us")] == ["lapse"]

    def test_a_reservation_that_was_void_only_for_a_while_lapses_although_its_lease_ended_meanwhile(self) -> None:
        world = Regions("ap", "eu", "us", settle_after_ms=3_000)
        world.do("eu", grant("L", 180))
        world.do("eu", VOID_IF_SHORT)
        world.do("eu", debit("early", 80))
        world.meet()
        world.part()
        world.do("ap", refund("early", 60))
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80, lease_ms=1_000))
        world.set_cut("eu", "us", False)
        world.exchange(1_500)
        assert claim_state(world, "us", "b") == "revoked"
        world.meet()
        assert claim_state(world, "us", "b") == "open", "ap had made room"
        assert world.reports("us") == []
        world.exchange(6_000)
        assert claim_state(world, "us", "b") == "lapsed"
        assert world.posted("eu") == {"issued": -180, "lot/L": 80, "used": 20, "held/a": 80}
        assert all(world.book(name).is_idle for name in world.names)

    def test_of_one_reservation_made_twice_the_earlier_region_lets_it_lapse(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        world.do("us", reserve("a", 80, lease_ms=1_000))
        world.meet()
        world.part()
        world.exchange(2_000)
        assert contents(world, "us", Lapse) == []
        assert [region for region, _ in contents(world, "eu", Lapse)] == ["eu"]

    @pytest.mark.parametrize("checkpointed", [True, False])
    def test_a_later_boot_lets_lapse_what_an_earlier_one_reserved(self, checkpointed: bool) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=5_000))
        if checkpointed:
            world.exchange(2_000)
            assert world.book("eu").is_idle
        world.part()
        world.crash("eu")
        world.exchange(6_000)
        assert [region for region, _ in contents(world, "eu", Lapse)] == ["eu"]


class TestLots:
    def test_debt_is_settled_when_a_lot_starts(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 10))
        world.do("eu", debit("d", 70, OnShortage.DEBT))
        world.do("eu", grant("M", 100, starts=2_000))
        assert world.book("eu").account.totals["debt"] == -60
        world.exchange(1_500)
        assert contents(world, "eu", Settle) == []
        world.exchange(200)
        assert contents(world, "eu", Settle) == [("eu", Settle())]
        assert world.posted("eu") == {"issued": -110, "used": 70, "lot/M": 40}

    def test_a_lot_that_starts_while_nobody_owes_needs_no_entry(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 10))
        world.do("eu", grant("M", 100, starts=1_000))
        world.exchange(2_000)
        assert contents(world, "eu", Settle) == []

    def test_a_lot_that_is_over_settles_nothing_and_a_restart_does_not_try(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100, until=1_000))
        world.meet()
        world.part()
        world.exchange(2_000)
        world.do("eu", debit("d", 70, OnShortage.DEBT))
        world.crash("eu")
        world.exchange(500)
        assert contents(world, "eu", Settle) == []

    def test_nor_does_it_when_the_debt_is_in_the_rows(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100, until=1_000))
        world.exchange(700)
        world.do("eu", debit("d", 70, OnShortage.DEBT))
        world.exchange(100)
        world.crash("eu")
        assert world.region("eu").books.debts() == {TENANT: 70}
        assert world.book("eu").account.lots[LotId("L")].remaining == 100
        world.exchange(500)
        assert contents(world, "eu", Settle) == []

    def test_only_the_region_that_granted_a_lot_settles_when_it_starts(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 10))
        world.do("eu", debit("d", 70, OnShortage.DEBT))
        world.do("eu", grant("M", 100, starts=3_000))
        world.meet()
        world.part()
        world.exchange(3_000)
        assert contents(world, "us", Settle) == []
        assert contents(world, "eu", Settle) == [("eu", Settle())]

    def test_a_lot_expires_once_nothing_from_before_its_end_can_come(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100, until=3_000))
        world.meet()
        world.part("us")
        world.exchange(5_000)
        assert contents(world, "eu", Expire) == []
        world.put_right()
        world.exchange(2_000)
        assert contents(world, "us", Expire) == [("eu", Expire(LotId("L")))]

    def test_usage_of_a_region_that_was_away_is_paid_by_the_lot_of_its_time(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100, until=3_000))
        world.meet()
        world.part("us")
        world.do("us", debit("in-time", 30))
        world.exchange(5_000)
        world.put_right()
        world.exchange(2_000)
        assert world.posted("eu") == {"issued": -100, "used": 30, "expired": 70}
        assert world.reports("eu") == []

    def test_a_lot_that_was_revoked_does_not_expire(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100, until=1_000))
        world.do("eu", revoke("L"))
        world.exchange(4_000)
        assert contents(world, "eu", Expire) == []

    def test_of_one_lot_granted_twice_the_earlier_region_lets_it_expire(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("X", 1))
        world.meet()
        world.part()
        world.do("eu", grant("L", 100, until=2_000))
        world.do("us", grant("L", 100, until=2_000))
        world.put_right()
        world.exchange(3_000)
        assert contents(world, "us", Expire) == [("eu", Expire(LotId("L")))]

    @pytest.mark.parametrize(("settle_after_ms", "until", "apart_ms"), [(500, 3_000, 4_000), (3_000, 2_500, 1_500)])
    def test_a_lot_that_only_for_a_while_was_another_regions_expires_all_the_same(
        self, settle_after_ms: int, until: int, apart_ms: int
    ) -> None:
        world = Regions("ap", "eu", "us", settle_after_ms=settle_after_ms)
        world.do("eu", grant("L", 100))
        world.exchange(1_000)
        world.part()
        world.do("ap", debit("d", 1), key="k")
        world.do("us", grant("M", 50, until=until), key="k")
        world.do("eu", grant("M", 50, until=until))
        world.set_cut("eu", "us", False)
        world.exchange(apart_ms)
        assert world.book("eu").account.lots[LotId("M")].granted.region == "us"
        world.meet()
        assert world.book("eu").account.lots[LotId("M")].granted.region == "eu", "ap had used the key of us before"
        world.exchange(8_000)
        assert contents(world, "us", Expire) == [("eu", Expire(LotId("M")))]
        assert all(world.audit(name).books_equal for name in world.names)

    def test_a_lot_that_was_revoked_only_for_a_while_expires_all_the_same(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", grant("M", 50, until=3_000))
        world.meet()
        world.part()
        world.do("ap", debit("d", 1), key="k")
        world.do("us", revoke("M"), key="k")
        world.set_cut("eu", "us", False)
        world.exchange(4_000)
        assert world.book("eu").account.lots[LotId("M")].state == "revoked"
        world.put_right()
        world.exchange(4_000)
        assert contents(world, "us", Expire) == [("eu", Expire(LotId("M")))]
        assert world.posted("ap") == {"issued": -150, "lot/L": 100, "used": 1, "expired": 49}


class TestPuttingRight:
    def test_the_books_are_put_right_when_the_tenant_has_been_quiet(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        world.exchange(500)
        assert contents(world, "us", Compensation) == []
        world.exchange(700)
        ((region, _),) = contents(world, "us", Compensation)
        assert region == "us"
        assert world.region("us").counts.conflicts == {"overspend": 1}
        assert world.region("eu").counts.conflicts == {}

    def test_a_tenant_that_is_never_quiet_is_put_right_in_the_end(self) -> None:
        world = Regions("eu", "us", settle_after_ms=1_000, settle_at_most_ms=3_000)
        world.do("eu", grant("L", 100))
        world.exchange(1_500)
        world.part()
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.cut.clear()
        for number in range(7):
            world.exchange(400)
            world.do("eu", renew("a", HOUR_MS), key=f"beat-{number}")
        assert contents(world, "us", Compensation) == []
        world.exchange(800)
        assert len(contents(world, "us", Compensation)) == 1

    def test_one_burst_is_put_right_once(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80), reserve("c", 20)])
        world.put_right()
        world.exchange(5_000)
        ((_, compensation),) = contents(world, "us", Compensation)
        assert isinstance(compensation, Compensation)
        assert [part.seq for part in compensation.of] == [1, 2]

    def test_without_concurrency_nothing_is_ever_compensated(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        for number in range(6):
            world.meet()
            world.do(("us", "eu")[number % 2], debit(f"d{number}", 30, OnShortage.DEBT))
        world.exchange(12_000)
        assert contents(world, "us", Compensation) == []
        assert world.reports("eu") == []
        assert world.posted("eu") == {"issued": -100, "used": 180, "debt": -80}

    def test_a_difference_that_no_rival_explains_is_an_alarm_and_is_left_alone(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        filed = world.do("us", reserve("b", 80))
        # As a fault would: what the contest is held against is not what the entry was made of.
        world.book("us").review()
        region, book = world.region("us"), world.book("us")
        contest = book._contest(filed.entry.replica, filed.entry.seq)
        assert contest is not None
        contest.canonical = Canonical({"lot/L": -20, "debt": -60, "held/b": 80}, Outcome.APPLIED, ClaimId("b"), 60)
        world.do("eu", grant("M", 1))
        world.exchange(3_000)
        (alarm,) = region.alarms.all()
        assert (alarm.kind.value, alarm.subject) == ("difference-without-rival", "us/b2:1")
        assert contents(world, "us", Compensation) == []

    @pytest.mark.parametrize("checkpointed", [True, False])
    def test_what_was_not_put_right_before_a_crash_is_put_right_after_it(self, checkpointed: bool) -> None:
        world = Regions("eu", "us", settle_after_ms=5_000)
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.meet()
        if checkpointed:
            world.exchange(2_000)
            assert len(world.book("us").timeline) == 0
            assert not world.book("us").is_idle
        world.crash("us")
        assert world.region("us").unsettled_count == 1
        world.exchange(6_000)
        assert [region for region, _ in contents(world, "us", Compensation)] == ["us"]
        assert world.posted("eu") == {"issued": -100, "held/a": 80, "held/b": 80, "debt": -60}
        assert world.the_report().state == "compensated"
        assert [world.audit(name).books_equal for name in world.names] == [True, True]


class TestTheDisk:
    def test_what_has_not_landed_is_gone_after_a_crash_and_its_key_is_free(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        world.ask("eu", reserve("a", 80), key="k")
        world.region("eu").seal()
        world.crash("eu")
        assert world.posted("eu") == {"issued": -100, "lot/L": 100}
        world.do("eu", reserve("a", 70), key="k")

    def test_nothing_is_shown_to_others_before_it_is_durable(self) -> None:
        world = Regions("eu", "us")
        region = world.region("eu")
        world.ask("eu", grant("L", 100))
        assert (region.clock, region.durable) == ({"eu/b1": 1}, {})
        batch = region.seal()
        assert region.durable == {}
        world.members["eu"].disk.write(batch)
        (sealed,) = region.landed()
        assert region.durable == {"eu/b1": 1}
        assert sealed == region.journal.sealed("eu/b1", 1)

    def test_batches_in_flight_land_one_by_one(self) -> None:
        world = Regions("eu")
        region, disk = world.region("eu"), world.members["eu"].disk
        world.ask("eu", grant("L", 100))
        first = region.seal()
        world.ask("eu", reserve("a", 10))
        world.ask("eu", reserve("b", 10))
        second = region.seal()
        disk.write(first)
        assert len(region.landed()) == 1
        assert (region.durable, region.journal.durable_commit) == ({"eu/b1": 1}, 1)
        disk.write(second)
        assert len(region.landed()) == 2
        assert (region.durable, region.journal.durable_commit) == ({"eu/b1": 3}, 2)

    def test_entries_of_peers_are_not_pushed_on_as_own(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        page = [sealed for _, _, sealed in world.region("eu").journal.page({"eu/b1": 1}, {}, 10, 10_000)]
        region, disk = world.region("us"), world.members["us"].disk
        region.receive(page, world.now)
        disk.write(region.seal())
        assert region.landed() == []
        assert region.durable == {"eu/b1": 1}
        region.receive(page, world.now)
        assert (region.clock, region.seal()) == ({"eu/b1": 1}, [])

    def test_the_low_water_commit_follows_what_is_checkpointed(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 10))
        world.exchange(1_000)
        assert low_of(world, "eu") == 2
        world.part()
        world.do("eu", reserve("b", 10))
        world.exchange(2_000)
        assert low_of(world, "eu") == 2, "us has not promised anything since"
        world.meet()
        world.exchange(1_000)
        assert low_of(world, "eu") == 3

    def test_a_commit_is_below_low_water_when_all_its_tenants_are_checkpointed(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.exchange(1_000)
        world.part()
        world.do("eu", grant("L", 100), tenant=OTHER)
        world.do("eu", reserve("a", 10))
        for name in (OTHER, TENANT):
            assert world.book("eu", name).checkpoint(hlc_at(world.now + 1), 1) != []
        assert low_of(world, "eu") == 1

    def test_a_start_reads_only_the_journals_tail(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 10))
        world.exchange(1_000)
        world.part()
        world.do("eu", reserve("b", 10))
        before = world.region("eu").books.digest()
        # The head of the journal is not read: it may as well be rubbish.
        disk = world.members["eu"].disk
        disk.write([(Table.LOG, number_key(commit), b"rubbish") for commit in (1, 2)])
        world.crash("eu")
        region = world.region("eu")
        assert region.clock == {"eu/b1": 3}
        assert len(world.book("eu").timeline) == 1
        assert region.books.digest() == before

    def test_a_new_boot_goes_on_with_a_log_of_its_own(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.crash("eu")
        filed = world.do("eu", reserve("a", 10))
        assert (filed.entry.replica, filed.entry.seq, filed.clock) == ("eu/b3", 1, {"eu/b1": 1, "eu/b3": 1})
        world.meet()
        assert world.region("us").clock == {"eu/b1": 1, "eu/b3": 1}

    def test_a_directory_of_other_rules_is_not_taken(self) -> None:
        world = Regions("eu")
        world.land("eu")
        disk = world.members["eu"].disk
        disk.write([(Table.META, RULES_KEY, checked(Table.META, RULES_KEY, pack(1)))])
        with pytest.raises(
            ForeignDirectory,
            match=r"written under the rules «1» of the ledger, this node has «2, key_lifetime_ms 7776000000»",
        ):
            world.crash("eu")


class TestPromises:
    def test_an_open_batch_holds_the_promise_back(self) -> None:
        world = Regions("eu")
        region = world.region("eu")
        promised = region.promise(world.now)
        assert promised == hlc_at(world.now)
        world.ask("eu", grant("L", 100))
        assert region.promise(world.now) == promised
        batch = region.seal()
        assert region.promise(world.now) == promised
        world.members["eu"].disk.write(batch)
        region.landed()
        assert region.promise(world.now) == hlc_at(world.now)

    def test_a_batch_in_flight_holds_it_back_to_what_landed(self) -> None:
        world = Regions("eu")
        region = world.region("eu")
        first = world.ask("eu", grant("L", 100))
        batch = region.seal()
        second = world.ask("eu", reserve("a", 10))
        assert isinstance(first, Accepted)
        assert isinstance(second, Accepted)
        world.members["eu"].disk.write(batch)
        region.landed()
        assert first.filed.position.hlc <= region.promise(world.now + 500) < second.filed.position.hlc

    def test_slow_commits_that_follow_each_other_without_a_pause_do_not_hold_it_back(self) -> None:
        world = Regions("eu")
        region, disk = world.region("eu"), world.members["eu"].disk
        under_way: list[Write] = []
        promised = []
        for _ in range(10):
            world.pass_time(1_200)
            region.tick(world.now)
            promised.append(world.now - ms_of(region.promise(world.now)))
            if under_way:
                disk.write(under_way)
                region.landed()
            under_way = region.seal()
            assert under_way, "a ceiling is due with every commit"
        assert max(promised[3:]) <= 2 * 1_200

    def test_what_was_asked_for_while_a_batch_was_under_way_is_not_promised(self) -> None:
        world = Regions("eu")
        region = world.region("eu")
        world.ask("eu", grant("L", 100))
        batch = region.seal()
        world.pass_time(500)
        sealed_before = region.promise(world.now)
        later = world.ask("eu", reserve("a", 10))
        assert isinstance(later, Accepted)
        world.members["eu"].disk.write(batch)
        region.landed()
        assert sealed_before <= region.promise(world.now + 500) < later.filed.position.hlc

    def test_what_comes_after_a_promise_reads_higher(self) -> None:
        world = Regions("eu")
        promised = world.region("eu").promise(world.now + 300)
        assert promised == hlc_at(world.now + 300)
        assert world.do("eu", grant("L", 100)).position.hlc > promised

    def test_nothing_is_promised_beyond_what_the_ceiling_on_disk_allows(self) -> None:
        world = Regions("eu")
        region = world.region("eu")
        stored = Overlay(world.members["eu"].disk).get(Table.META, CEILING)
        assert stored is not None
        ceiling = unpack(stored)
        assert 1_000 <= ms_of(ceiling) - world.now <= 2_000
        assert region.promise(world.now + 60_000) == ceiling

    def test_a_ceiling_that_has_not_landed_does_not_count(self) -> None:
        world = Regions("eu")
        region = world.region("eu")
        before = region.hlc.ceiling
        world.pass_time(5_000)
        region.tick(world.now)
        batch = region.seal()
        assert region.promise(world.now) <= before
        world.members["eu"].disk.write(batch)
        region.landed()
        assert region.promise(world.now) == hlc_at(world.now) > before

    def test_a_promise_outlives_a_crash(self) -> None:
        world = Regions("eu")
        promised = world.region("eu").promise(world.now + 60_000)
        world.crash("eu")
        assert world.do("eu", grant("L", 100)).position.hlc > promised

    def test_a_new_boot_is_at_most_two_seconds_ahead(self) -> None:
        world = Regions("eu")
        world.crash("eu")
        assert world.region("eu").present(world.now) - world.now <= 2_000


class TestMemory:
    def story(self, tenants_in_memory: int) -> Regions:
        """Three tenants in turn, with a conflict each, and rests in which books may be dropped."""
        world = Regions("eu", "us", tenants_in_memory=tenants_in_memory)
        tenants = [TENANT, OTHER, TenantId("initech")]
        for tenant in tenants:
            world.do("eu", grant("L", 100), tenant=tenant)
        world.exchange(2_000)
        world.part()
        for tenant in tenants:
            world.do("eu", reserve("a", 80), tenant=tenant)
            world.do("us", reserve("b", 80), key="b", tenant=tenant)
        world.put_right()
        world.exchange(3_000)
        for tenant in tenants:
            world.do("eu", capture("a", 30, final=True), tenant=tenant)
        world.exchange(3_000)
        return world

    def test_dropping_books_from_memory_changes_nothing(self) -> None:
        small, large = self.story(1), self.story(100)
        for world, count in ((small, 1), (large, 3)):
            assert len(world.region("us").books.in_memory) == count
        assert (
            small.region("us").books.digest() == large.region("us").books.digest() == small.region("eu").books.digest()
        )
        assert small.reports("us") == large.reports("us")
        assert small.region("us").books.debts() == large.region("us").books.debts()
        assert small.region("us").books.debts() == dict.fromkeys((TENANT, OTHER, TenantId("initech")), 10)
        assert small.audit("us").ok
        retry = small.ask("us", reserve("b", 80), key="b", tenant=OTHER)
        assert isinstance(retry, Accepted)
        assert retry.replayed

    def test_the_tenant_touched_last_stays(self) -> None:
        world = self.story(1)
        world.do("us", debit("x", 1, OnShortage.DEBT), tenant=OTHER)
        world.exchange(3_000)
        assert list(world.region("us").books.in_memory) == [OTHER]

    def test_of_many_that_could_be_dropped_it_is_the_one_not_touched_for_longest(self) -> None:
        world = self.story(2)
        region = world.region("us")
        stays, goes = region.books.in_memory
        world.pass_time(1)
        region.books.existing(stays, world.now)
        (read,) = {TENANT, OTHER, TenantId("initech")} - {stays, goes}
        world.pass_time(1)
        region.books.existing(read, world.now)
        world.exchange(1_500)
        assert set(region.books.in_memory) == {stays, read}

    def test_a_tenant_that_may_have_to_be_put_right_is_not_dropped(self) -> None:
        world = Regions("eu", "us", tenants_in_memory=0, settle_after_ms=5_000)
        world.do("eu", grant("L", 100))
        world.exchange(3_000)
        us = world.region("us")
        assert (us.unsettled_count, list(us.books.in_memory), us.books.in_memory[TENANT].is_idle) == (1, [TENANT], True)
        world.exchange(5_000)
        assert (us.unsettled_count, us.books.in_memory) == (0, {})

    def test_a_tenant_that_is_not_put_right_yet_is_not_dropped(self) -> None:
        world = Regions("eu", "us", tenants_in_memory=0, settle_after_ms=10_000)
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.meet()
        world.exchange(3_000)
        assert list(world.region("us").books.in_memory) == [TENANT]


class TestEntriesTooLong:
    def test_what_is_spread_over_too_many_lots_is_refused_and_leaves_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A single region would not grant so many; several that do not see each other may.
        monkeypatch.setattr("ledger.admission.MAX_OPEN_LOTS", 10_000)
        world = Regions("eu")
        region = world.region("eu")
        for number in range(2_000):
            region.submit(TENANT, grant(f"{number:0128}", 1), Key(f"g{number}"), world.now)
        world.land("eu")
        digest, clock = region.books.digest(), dict(region.clock)
        answer = world.ask("eu", reserve("a", 2_000), key="k")
        assert isinstance(answer, Refusal)
        assert (answer.reason, answer.fields["field"]) == (Reason.INVALID_REQUEST, "amount")
        assert (region.books.digest(), region.clock, region.seal()) == (digest, clock, [])
        assert region.books.digest() == digest
        filed = world.do("eu", reserve("a", 1_000), key="k")
        assert filed.entry.seq == 2_001
        sealed = region.journal.sealed("eu/b1", 2_001)
        assert sealed is not None
        assert MAX_SEALED_BYTES // 2 < len(sealed) < MAX_SEALED_BYTES
        assert world.audit("eu").ok


class TestAlarms:
    def test_an_entry_from_too_far_ahead_waits_for_our_clock_and_is_told_once(self) -> None:
        world = Regions("eu", "us")
        ahead = START_MS + 30_000
        answer = world.region("eu").submit(TENANT, grant("L", 100), Key("k"), ahead)
        assert isinstance(answer, Accepted)
        world.land("eu")
        page = [sealed for _, _, sealed in world.region("eu").journal.page({"eu/b1": 1}, {}, 10, 10_000)]
        us = world.region("us")
        us.receive(page, world.now)
        assert us.clock == {}
        us.tick(world.now)
        (alarm,) = us.alarms.all()
        assert (alarm.kind, alarm.subject, alarm.count) == (AlarmKind.CLOCK_AHEAD, "eu/b1", 1)
        world.now = ahead - 10_000
        us.tick(world.now)
        assert us.clock == {"eu/b1": 1}
