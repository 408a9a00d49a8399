"""What somebody who follows the conflicts has to look at again, in the order in which it changed."""

from ledger.command import OnShortage
from ledger.ids import Position, TenantId
from node.changes import Changes
from tests.regions import Regions, clash, debit, grant, reserve
from tests.unit.node.test_acknowledging import LOSER

ACME = TenantId("acme")


def place(number: int) -> Position:
    return Position(number, "eu", "b", number)


class TestTheLastThatWereTouched:
    def test_one_stands_there_once_under_the_number_of_its_last_touch(self) -> None:
        changes = Changes()
        for number in (1, 2, 1):
            changes.touch(ACME, place(number))
        assert changes.after(0, 10) == [(2, (ACME, place(2))), (3, (ACME, place(1)))]
        assert changes.after(2, 10) == [(3, (ACME, place(1)))]
        assert changes.after(3, 10) == []
        assert changes.last == 3

    def test_a_page_has_the_first_of_them(self) -> None:
        changes = Changes()
        for number in range(1, 6):
            changes.touch(ACME, place(number))
        assert [number for number, _ in changes.after(1, 2)] == [2, 3]

    def test_memory_is_bounded_and_what_was_forgotten_is_known_to_be(self) -> None:
        changes = Changes(most=2)
        for number in range(1, 6):
            changes.touch(ACME, place(number))
        assert [number for number, _ in changes.after(0, 10)] == [4, 5]
        assert changes.lost == 3

    def test_touching_the_same_over_and_over_forgets_nothing(self) -> None:
        changes = Changes(most=2)
        for number in (1, 2, 2, 2, 2):
            changes.touch(ACME, place(number))
        assert (len(changes.after(0, 10)), changes.lost) == (2, 0)


class TestWhatARegionTouches:
    def since(self, world: Regions, name: str, number: int) -> list[str]:
        """What the reports that were touched since then say by now."""
        region = world.region(name)
        region.conflicts.look_for_changes()
        told = []
        for _, contested in region.conflicts.changes.after(number, 100):
            report = region.conflicts.report_at(*contested, world.now)
            told.append(f"{report.id} {report.state}" if report is not None else "nothing")
        return told

    def last(self, world: Regions, name: str) -> int:
        world.region(name).conflicts.look_for_changes()
        return world.region(name).conflicts.changes.last

    def test_each_step_of_a_conflicts_life(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        for name in world.names:
            assert self.since(world, name, 0) == [f"{LOSER} detected"]
        last = {name: self.last(world, name) for name in world.names}
        world.put_right()
        for name in world.names:
            assert self.since(world, name, last[name]) == [f"{LOSER} compensated"]
        last = {name: self.last(world, name) for name in world.names}
        world.acknowledge("eu", LOSER)
        world.meet()
        for name in world.names:
            assert self.since(world, name, last[name]) == [f"{LOSER} compensated"]
        last = {name: self.last(world, name) for name in world.names}
        world.do("eu", grant("M", 60))
        world.meet()
        for name in world.names:
            assert self.since(world, name, last[name]) == [f"{LOSER} repaid"]

    def test_a_debt_that_is_repaid_long_after_its_conflict_is_stable(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        world.put_right()
        world.exchange(2_000)
        for name in world.names:
            assert world.book(name).is_idle
            world.crash(name)
        world.put_right()
        last = {name: self.last(world, name) for name in world.names}
        world.do("us", grant("M", 59))
        world.meet()
        for name in world.names:
            assert self.since(world, name, last[name]) == [], "a part of it is not all"
        world.do("us", grant("N", 1))
        world.meet()
        for name in world.names:
            assert self.since(world, name, last[name]) == [f"{LOSER} repaid"]

    def test_whatever_owes_for_a_grant_that_was_none(self) -> None:
        """Both regions grant M to repay the same debt; the later grant is none, and what it repaid is owed again."""
        world = Regions("eu", "us")
        world.do("eu", grant("L", 10))
        world.do("eu", debit("d", 40, OnShortage.DEBT))
        world.meet()
        world.part()
        world.do("eu", grant("M", 10))
        world.do("us", grant("M", 30))
        world.put_right()
        world.exchange(2_000)
        (report,) = [report for report in world.reports("us") if report.kind == "key_mismatch" or report.debt]
        last = self.last(world, "us")
        world.do("eu", grant("N", 100))
        world.meet()
        assert self.since(world, "us", last) == [f"{report.id} repaid"]

    def test_what_does_not_concern_it_touches_nothing(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        world.put_right()
        world.exchange(2_000)
        last = self.last(world, "eu")
        world.do("eu", grant("M", 10))
        world.exchange(2_000)
        assert self.since(world, "eu", last) == []

    def test_what_comes_to_nothing_is_touched_too(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("ap", grant("M", 100))
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.set_cut("eu", "us", False)
        world.exchange(400)
        last = self.last(world, "us")
        world.meet()
        assert self.since(world, "us", last) != []
