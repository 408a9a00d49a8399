"""The life of a conflict, as every region tells it: detected, compensated, repaid, or cleared."""

import pytest

from conflict.report import Party, State, loser_in, report_id
from ledger.ids import ClaimId, Position
from replication.clock import Dot
from tests.regions import END, HOUR_MS, Regions, capture, clash, grant, refund, release, renew, reserve
from tests.world import TENANT


def overspend() -> Regions:
    """Both regions reserve 80 of 100; us is the later."""
    return clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])


class TestItsLife:
    def test_it_is_detected_when_the_regions_have_met(self) -> None:
        report = overspend().the_report()
        assert (report.state, report.debt, report.compensations, report.detected_at) == ("detected", 60, (), None)

    def test_it_is_compensated_when_the_losers_region_has_posted_the_difference(self) -> None:
        world = overspend()
        world.put_right()
        report = world.the_report()
        (amends,) = report.compensations
        assert (report.state, report.amount, report.debt) == ("compensated", 60, 60)
        assert amends.dot == Dot("us/b2", 2)
        assert amends.postings == {"lot/L": 60, "debt": -60}
        assert report.detected_at == amends.position.now

    def test_it_is_repaid_when_the_losers_claim_owes_nothing_any_more(self) -> None:
        world = overspend()
        world.put_right()
        world.do("eu", grant("M", 59))
        world.put_right()
        assert world.the_report().state is State.COMPENSATED
        world.do("eu", grant("N", 1))
        world.put_right()
        report = world.the_report()
        assert (report.state, report.debt) == ("repaid", 60)
        assert world.posted("us") == {"issued": -160, "held/a": 80, "held/b": 80}

    def test_it_is_repaid_when_the_reservation_has_been_released(self) -> None:
        world = overspend()
        world.do("us", release("b"))
        world.put_right()
        assert world.the_report().state is State.REPAID
        assert world.posted("eu") == {"issued": -100, "lot/L": 20, "held/a": 80}

    def test_a_release_before_anybody_knew_loses_too_and_gives_back_less(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80), release("b")])
        world.put_right()
        newest, first = world.reports("eu")
        assert (newest.loser.kind, newest.kind, newest.amount, newest.debt) == ("release", "reallocated", 60, 0)
        assert (first.loser.kind, first.kind, first.state, first.debt) == ("hold", "overspend", "repaid", 60)
        assert world.posted("eu") == {"issued": -100, "lot/L": 20, "held/a": 80}

    def test_it_is_cleared_when_a_third_region_had_made_room(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 180))
        world.do("eu", reserve("early", 80))
        world.do("eu", capture("early", 80))
        world.meet()
        world.part()
        world.do("ap", refund("early", 60))
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.set_cut("eu", "us", False)
        world.exchange(3_000)
        (detected,) = world.reports("us")
        assert (detected.kind, detected.state, detected.debt) == ("overspend", "compensated", 60)
        world.put_right()
        report = world.the_report()
        assert report.id == detected.id
        assert (report.kind, report.state, report.debt, report.amount, report.lots) == (
            "overspend",
            "cleared",
            0,
            0,
            (),
        )
        assert [amends.postings for amends in report.compensations] == [
            {"lot/L": 60, "debt": -60},
            {"lot/L": -60, "debt": 60},
        ]
        assert report.detected_at == detected.detected_at
        assert world.posted("ap") == {"issued": -180, "used": 20, "held/a": 80, "held/b": 80}

    def test_it_is_detected_again_until_what_was_posted_for_nothing_is_taken_back(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("ap", grant("M", 100, until=HOUR_MS - 1))
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.set_cut("eu", "us", False)
        world.exchange(3_000)
        world.meet()
        states = {report.loser.region: (report.kind, report.state) for report in world.reports("us")}
        assert states == {"eu": ("reallocated", "detected"), "us": ("reallocated", "detected")}

    def test_a_duplicate_is_cleared_when_the_earlier_one_was_one_itself(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("ap", reserve("other", 5), key="k")
        world.do("eu", reserve("job", 10), key="k")
        world.do("us", reserve("job", 20))
        world.set_cut("eu", "us", False)
        world.exchange(3_000)
        (duplicate,) = world.reports("us")
        assert (duplicate.kind, duplicate.state) == ("duplicate", "compensated")
        world.put_right()
        cleared, mismatch = world.reports("us")
        assert (cleared.id, cleared.kind, cleared.state) == (duplicate.id, "duplicate", "cleared")
        assert (mismatch.loser.region, mismatch.kind, mismatch.state) == ("eu", "key_mismatch", "compensated")
        assert world.posted("ap") == {"issued": -100, "lot/L": 75, "held/other": 5, "held/job": 20}

    def test_where_nothing_has_to_be_posted_the_books_are_right_at_once(self) -> None:
        world = clash([grant("L", 100), reserve("a", 80)], [release("a")], [renew("a", HOUR_MS)])
        before = world.the_report()
        assert (before.kind, before.state, before.detected_at) == ("lease", "compensated", None)
        world.put_right()
        assert world.the_report() == before


class TestWhatItTells:
    def test_who_lost_against_whom_and_what_each_had_seen(self) -> None:
        world = Regions("eu", "us")
        given = world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        winner = world.do("eu", reserve("a", 80), key="ka")
        loser = world.do("us", reserve("b", 70), key="kb")
        world.meet()
        report = world.the_report()
        assert report.tenant == TENANT
        assert report.loser == Party(
            "us/b2", 1, "us", loser.entry.hlc, {"eu/b1": 1, "us/b2": 1}, "hold", "kb", "b", 70, "applied"
        )
        assert report.rivals == (
            Party("eu/b1", 2, "eu", winner.entry.hlc, {"eu/b1": 2}, "hold", "ka", "a", 80, "applied"),
        )
        assert given.entry.hlc < winner.entry.hlc < loser.entry.hlc
        assert report.canonical_outcome == "applied"

    def test_it_has_one_name_for_life_and_can_be_asked_for_by_it(self) -> None:
        world = overspend()
        assert world.the_report().id == "us.b2.1.overspend"
        world.put_right()
        report = world.the_report()
        assert report.id == "us.b2.1.overspend"
        for name in world.names:
            assert world.region(name).report("us.b2.1.overspend", world.now) == report

    def test_no_other_name_finds_it(self) -> None:
        region = overspend().region("us")
        for name in (
            "us.b2.1.duplicate",
            "us.b2.2.overspend",
            "eu.b1.2.overspend",
            "us.b2.1",
            "",
            "us.b2.one.overspend",
        ):
            assert region.report(name, 0) is None

    def test_the_newest_loser_comes_first_and_a_place_goes_on_from_there(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 100)], [reserve("b", 10), reserve("c", 20)])
        newest, oldest = world.reports("eu")
        assert (newest.loser.claim, oldest.loser.claim) == ("c", "b")
        place = Position(newest.loser.hlc, "us", "b2", newest.loser.seq)
        assert list(world.region("eu").reports(None, place, world.now)) == [oldest]
        assert list(world.region("eu").reports(TENANT, END, world.now)) == [newest, oldest]

    def test_every_region_tells_the_same_also_after_checkpoints_and_restarts(self) -> None:
        world = overspend()
        world.put_right()
        report = world.the_report()
        world.exchange(3_000)
        assert all(not len(world.book(name).timeline) for name in world.names)
        assert world.the_report() == report
        for name in world.names:
            world.crash(name)
        assert world.the_report() == report
        world.exchange()
        world.do("eu", grant("M", 100))
        world.put_right()
        assert world.the_report().state is State.REPAID
        claim = world.book("us").account.claim(ClaimId("b"))
        assert claim is not None
        assert (claim.debt, claim.held) == (0, (("L", 20), ("M", 60)))


class TestItsName:
    def test_it_is_the_losers_dot_and_the_kind(self) -> None:
        report = overspend().the_report()
        place = Position(report.loser.hlc, "us-east", "0abc", 12)
        assert report_id(place, report.kind) == "us-east.0abc.12.overspend"
        assert loser_in("us-east.0abc.12.overspend") == (Dot("us-east/0abc", 12), False)

    @pytest.mark.parametrize("name", ["", "us", "us.b.1", "us.b.1.x.y", "us.b.-1.x", "us.b.x.x", f"us.b.{'9' * 17}.x"])
    def test_anything_else_names_nothing(self, name: str) -> None:
        assert loser_in(name) is None
