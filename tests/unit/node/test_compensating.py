"""When a region puts a tenant's books right, and when it does not."""

import pytest

from conflict.detect import Canonical
from ledger.command import OnShortage
from ledger.ids import ClaimId, TenantId
from ledger.operation import Compensation
from ledger.posting import Outcome
from tests.regions import HOUR_MS, Regions, clash, debit, grant, renew, reserve

OTHER = TenantId("globex")


class TestPuttingRight:
    def test_the_books_are_put_right_when_the_tenant_has_been_quiet(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        world.exchange(500)
        assert world.contents("us", Compensation) == []
        world.exchange(700)
        ((region, _),) = world.contents("us", Compensation)
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
        assert world.contents("us", Compensation) == []
        world.exchange(800)
        assert len(world.contents("us", Compensation)) == 1

    def test_one_burst_is_put_right_once(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80), reserve("c", 20)])
        world.put_right()
        world.exchange(5_000)
        ((_, compensation),) = world.contents("us", Compensation)
        assert isinstance(compensation, Compensation)
        assert [part.seq for part in compensation.of] == [1, 2]

    def test_without_concurrency_nothing_is_ever_compensated(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        for number in range(6):
            world.meet()
            world.do(("us", "eu")[number % 2], debit(f"d{number}", 30, OnShortage.DEBT))
        world.exchange(12_000)
        assert world.contents("us", Compensation) == []
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
        assert world.contents("us", Compensation) == []

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
        assert [region for region, _ in world.contents("us", Compensation)] == ["us"]
        assert world.posted("eu") == {"issued": -100, "held/a": 80, "held/b": 80, "debt": -60}
        assert world.the_report().state == "compensated"
        assert [world.audit(name).books_equal for name in world.names] == [True, True]
