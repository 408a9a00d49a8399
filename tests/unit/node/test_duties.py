"""What a region does by itself: leases lapse, lots settle debt and expire."""

import pytest

from ledger.command import OnShortage
from ledger.ids import ClaimId, LotId, TenantId
from ledger.operation import Expire, Lapse, Settle
from tests.regions import VOID_IF_SHORT, Regions, debit, grant, refund, release, renew, reserve, revoke
from tests.world import TENANT

OTHER = TenantId("globex")


def claim_state(world: Regions, name: str, claim: str) -> str:
    """What a region makes of a claim."""
    found = world.book(name).account.claim(ClaimId(claim))
    assert found is not None
    return found.state


class TestLapses:
    def test_a_lease_that_ends_gives_back_what_is_held(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        until = world.now + 1_000
        world.exchange(900)
        assert world.contents("eu", Lapse) == []
        world.exchange(100)
        assert world.contents("eu", Lapse) == [("eu", Lapse(ClaimId("a"), until))]
        assert world.region("eu").counts.lapsed == 1
        assert world.posted("eu") == {"issued": -100, "lot/L": 100}

    def test_a_heartbeat_puts_it_off(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        world.exchange(500)
        world.do("eu", renew("a", 1_000))
        world.exchange(900)
        assert world.contents("eu", Lapse) == []
        world.exchange(100)
        assert len(world.contents("eu", Lapse)) == 1

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
        assert world.contents("eu", Lapse) == []

    def test_no_other_region_lets_it_lapse(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        world.meet()
        world.part()
        world.exchange(2_000)
        assert world.contents("us", Lapse) == []
        assert [region for region, _ in world.contents("eu", Lapse)] == ["eu"]

    def test_a_region_that_only_renewed_it_does_not_let_it_lapse_either(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        world.meet()
        world.do("us", renew("a", 1_000))
        world.meet()
        world.part()
        world.exchange(2_000)
        assert world.contents("us", Lapse) == []
        world.put_right()
        assert [region for region, _ in world.contents("us", Lapse)] == ["eu"]
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
        assert len(world.contents("eu", Lapse)) == 1
        world.put_right()
        assert world.posted("eu") == {"issued": -100, "lot/L": 20, "held/a": 80}
        world.exchange(6_000)
        (_, first), (region, second) = world.contents("us", Lapse)
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
        assert world.contents("us", Lapse) == []
        assert [region for region, _ in world.contents("eu", Lapse)] == ["eu"]

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
        assert [region for region, _ in world.contents("eu", Lapse)] == ["eu"]


class TestLots:
    def test_debt_is_settled_when_a_lot_starts(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 10))
        world.do("eu", debit("d", 70, OnShortage.DEBT))
        world.do("eu", grant("M", 100, starts=2_000))
        assert world.book("eu").account.totals["debt"] == -60
        world.exchange(1_500)
        assert world.contents("eu", Settle) == []
        world.exchange(200)
        assert world.contents("eu", Settle) == [("eu", Settle())]
        assert world.posted("eu") == {"issued": -110, "used": 70, "lot/M": 40}

    def test_a_lot_that_starts_while_nobody_owes_needs_no_entry(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 10))
        world.do("eu", grant("M", 100, starts=1_000))
        world.exchange(2_000)
        assert world.contents("eu", Settle) == []

    def test_a_lot_that_is_over_settles_nothing_and_a_restart_does_not_try(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100, until=1_000))
        world.meet()
        world.part()
        world.exchange(2_000)
        world.do("eu", debit("d", 70, OnShortage.DEBT))
        world.crash("eu")
        world.exchange(500)
        assert world.contents("eu", Settle) == []

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
        assert world.contents("eu", Settle) == []

    def test_only_the_region_that_granted_a_lot_settles_when_it_starts(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 10))
        world.do("eu", debit("d", 70, OnShortage.DEBT))
        world.do("eu", grant("M", 100, starts=3_000))
        world.meet()
        world.part()
        world.exchange(3_000)
        assert world.contents("us", Settle) == []
        assert world.contents("eu", Settle) == [("eu", Settle())]

    def test_a_lot_expires_once_nothing_from_before_its_end_can_come(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100, until=3_000))
        world.meet()
        world.part("us")
        world.exchange(5_000)
        assert world.contents("eu", Expire) == []
        world.put_right()
        world.exchange(2_000)
        assert world.contents("us", Expire) == [("eu", Expire(LotId("L")))]

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
        assert world.contents("eu", Expire) == []

    def test_of_one_lot_granted_twice_the_earlier_region_lets_it_expire(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("X", 1))
        world.meet()
        world.part()
        world.do("eu", grant("L", 100, until=2_000))
        world.do("us", grant("L", 100, until=2_000))
        world.put_right()
        world.exchange(3_000)
        assert world.contents("us", Expire) == [("eu", Expire(LotId("L")))]

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
        assert world.contents("us", Expire) == [("eu", Expire(LotId("M")))]
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
        assert world.contents("us", Expire) == [("eu", Expire(LotId("M")))]
        assert world.posted("ap") == {"issued": -150, "lot/L": 100, "used": 1, "expired": 49}
