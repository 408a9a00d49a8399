"""The life of a conflict, as every region tells it: detected, compensated, repaid, or cleared."""

import msgspec
import pytest

from conflict.detect import Kind
from conflict.report import Party, State, claim_of, kind_of, loser_in, party, report_id
from ledger.command import Command, OnShortage
from ledger.ids import ClaimId, Position
from ledger.posting import Outcome
from replication.clock import Dot
from replication.filed import legs_of
from tests.regions import (
    END,
    HOUR_MS,
    UMBRA,
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
    transfer,
    usage,
)
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

    def test_it_is_repaid_by_credit_that_another_tenant_gives(self) -> None:
        world = overspend()
        world.put_right()
        world.do("eu", grant("L", 100), tenant=UMBRA)
        world.do("eu", transfer(TENANT, 60), tenant=UMBRA)
        world.put_right()
        assert world.the_report().state is State.REPAID

    def test_usage_is_repaid_when_the_claim_that_it_was_charged_to_owes_nothing_whatever_is_the_jobs_by_then(
        self,
    ) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100, starts=0))
        world.do("eu", reserve("a", 10, job="train"))
        world.do("eu", VOID_IF_SHORT)
        world.meet()
        world.part()
        world.do("eu", debit("d", 90))
        world.do("us", usage("train", 10, 20, 40))
        world.do("ap", reserve("b", 20, job="train"))
        world.put_right()
        void, short = world.reports("us")
        assert (void.kind, void.debt) == ("revoked", 0)
        assert (short.kind, short.debt, short.state) == ("overspend", 30, "compensated")
        world.exchange(3_000)
        assert world.book("us").timeline.first_place is None
        assert world.reports("us") == world.reports("ap") == [void, short], "also from the rows"
        world.do("eu", grant("M", 30))
        world.put_right()
        world.do("eu", debit("other", 5, OnShortage.DEBT))
        world.put_right()
        assert world.region("us").books.debts() == {TENANT: 5}
        assert world.reports("us")[1].state is State.REPAID

    def test_what_a_duplicate_grant_had_repaid_is_owed_until_the_tenant_owes_nothing(self) -> None:
        world = clash([grant("L", 10), debit("a", 70, OnShortage.DEBT)], [grant("M", 5)], [grant("M", 40)])
        world.put_right()
        assert (world.the_report().debt, world.the_report().state) == (40, "compensated")
        world.do("eu", grant("N", 55))
        world.put_right()
        assert world.the_report().state is State.REPAID

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
            assert world.region(name).conflicts.report("us.b2.1.overspend", world.now) == report

    def test_a_name_from_before_its_kind_changed_still_finds_it(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("ap", grant("M", 100))
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 70))
        world.set_cut("eu", "us", False)
        world.exchange(4_000)
        (was,) = world.reports("us")
        assert (was.kind, was.debt) == ("overspend", 50)
        world.put_right()
        now = world.region("us").conflicts.report(was.id, world.now)
        assert now is not None
        assert (now.kind, now.debt, len(now.compensations)) == ("reallocated", 0, 2)
        assert world.region("ap").conflicts.report(now.id, world.now) == now

    def test_no_other_name_finds_it(self) -> None:
        region = overspend().region("us")
        for name in (
            "us.b2.1.lunch",
            "us.b2.2.overspend",
            "eu.b1.2.overspend",
            "us.b2.1",
            "",
            "us.b2.one.overspend",
        ):
            assert region.conflicts.report(name, 0) is None

    def test_the_newest_loser_comes_first_and_a_place_goes_on_from_there(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 100)], [reserve("b", 10), reserve("c", 20)])
        newest, oldest = world.reports("eu")
        assert (newest.loser.claim, oldest.loser.claim) == ("c", "b")
        place = Position(newest.loser.hlc, "us", "b2", newest.loser.seq)
        assert list(world.region("eu").conflicts.reports(None, place, world.now)) == [oldest]
        assert list(world.region("eu").conflicts.reports(TENANT, END, world.now)) == [newest, oldest]

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


def gift_twice() -> Regions:
    """One transfer, accepted in two regions that did not see each other."""
    world = Regions("eu", "us")
    for tenant in (TENANT, UMBRA):
        world.do("eu", grant("L", 100), tenant=tenant)
    world.meet()
    world.part()
    for name in world.names:
        world.do(name, transfer(UMBRA, 50), key="gift")
    world.meet()
    return world


class TestATransfer:
    """It stands in two books, and can lose in both."""

    def test_what_the_receiver_lost_has_a_name_of_its_own(self) -> None:
        world = gift_twice()
        received, given = world.reports("us")
        assert (given.id, given.tenant) == ("us.b2.1.duplicate", TENANT)
        assert (received.id, received.tenant) == ("us.b2.1.duplicate.received", UMBRA)
        for report in (received, given):
            for name in world.names:
                assert world.region(name).conflicts.report(report.id, world.now) == report

    def test_both_tell_the_same_operation(self) -> None:
        received, given = gift_twice().reports("us")
        assert (received.loser.kind, received.loser.amount, received.loser.key) == ("transfer", 50, "gift")
        assert received.loser.claim is None, "in the receiver's book it is a lot"
        assert given.loser.claim == received.lots[0].lot
        assert [rival.kind for rival in received.rivals] == [rival.kind for rival in given.rivals] == ["transfer"]

    def test_what_the_giver_recorded_is_not_what_the_receiver_did(self) -> None:
        world = Regions("eu")
        for tenant in (TENANT, UMBRA):
            world.do("eu", grant("L", 100), tenant=tenant)
        filed = world.do("eu", transfer(UMBRA, 5))
        entry = msgspec.structs.replace(filed.entry, outcome=Outcome.CLOSED)
        legs = legs_of(msgspec.structs.replace(filed, entry=entry))
        assert [party(leg).outcome for leg in legs] == ["closed", "applied"]

    def test_each_is_found_among_the_conflicts_of_its_own_tenant(self) -> None:
        world = gift_twice()
        received, given = world.reports("us")
        for settle in (world.meet, world.put_right, lambda: world.exchange(3_000)):
            settle()
            assert [report.id for report in world.reports("us", TENANT)] == [given.id]
            assert [report.id for report in world.reports("eu", UMBRA)] == [received.id]

    def test_one_that_lost_in_one_account_has_no_report_of_the_other(self) -> None:
        world = Regions("eu", "us")
        for tenant in (TENANT, UMBRA):
            world.do("eu", grant("L", 100), tenant=tenant)
        world.meet()
        world.part()
        world.do("eu", debit("d", 80))
        world.do("us", transfer(UMBRA, 50))
        world.meet()
        assert world.the_report().id == "us.b2.1.overspend"
        region = world.region("eu")
        assert region.conflicts.report("us.b2.1.overspend.received", world.now) is None
        assert region.conflicts.report("us.b2.1.duplicate.received", world.now) is None
        assert region.conflicts.report("eu.b1.3.overspend.received", world.now) is None, "a debit is received by nobody"


class TestItsName:
    def test_it_is_the_losers_dot_and_the_kind(self) -> None:
        report = overspend().the_report()
        place = Position(report.loser.hlc, "us-east", "0abc", 12)
        assert report_id(place, report.kind) == "us-east.0abc.12.overspend"
        assert loser_in("us-east.0abc.12.overspend") == (Dot("us-east/0abc", 12), False)

    def test_in_the_receivers_account_it_says_so(self) -> None:
        place = Position(7, "us-east", "0abc", 12)
        assert report_id(place, Kind.DUPLICATE, is_receipt=True) == "us-east.0abc.12.duplicate.received"
        assert loser_in("us-east.0abc.12.duplicate.received") == (Dot("us-east/0abc", 12), True)

    @pytest.mark.parametrize(
        "name",
        [
            "", "us", "us.b.1", "us.b.1.x.y", "us.b.-1.x", "us.b.x.x", f"us.b.{'9' * 17}.x", ".received",
            "us.b.1.received", "us.b.1.x.received.received",
        ],
    )  # fmt: skip
    def test_anything_else_names_nothing(self, name: str) -> None:
        assert loser_in(name) is None


class TestWhoseClaim:
    @pytest.mark.parametrize(
        ("command", "kind", "claim"),
        [
            (reserve("b", 5), "hold", "b"),
            (debit("b", 5), "debit", "b"),
            (capture("a", 5), "capture", "a"),
            (release("a"), "release", "a"),
            (renew("a", HOUR_MS), "renew", "a"),
            (refund("d", 5), "refund", "d"),
            (usage("train", 10, 20, 5, claim="a"), "usage", "a"),
            (usage("train", 10, 20, 5), "usage", "a"),
            (usage("stray", 10, 20, 5), "usage", None),
            (heartbeat("train", claim="a"), "heartbeat", "a"),
            (heartbeat("train"), "heartbeat", "a"),
            (heartbeat("stray"), "heartbeat", None),
            (grant("M", 5), "grant", None),
            (revoke("L"), "revoke", None),
            (VOID_IF_SHORT, "policy", None),
        ],
    )
    def test_an_entry_names_the_claim_that_it_was_said_to_be_about(
        self, command: Command, kind: str, claim: str | None
    ) -> None:
        world = Regions("eu")
        for earlier in (grant("L", 100, starts=0), reserve("a", 10, job="train"), debit("d", 10)):
            world.do("eu", earlier)
        filed = world.do("eu", command)
        assert (kind_of(filed), claim_of(filed)) == (kind, claim)

    def test_a_transfer_names_one_in_the_givers_book_only(self) -> None:
        world = Regions("eu")
        for tenant in (TENANT, UMBRA):
            world.do("eu", grant("L", 100), tenant=tenant)
        given, received = legs_of(world.do("eu", transfer(UMBRA, 5)))
        assert claim_of(given) == given.entry.content.name  # type: ignore[union-attr]
        assert claim_of(received) is None
        assert kind_of(given) == kind_of(received) == "transfer"

    def test_a_compensation_names_none(self) -> None:
        world = overspend()
        world.put_right()
        compensation = world.book("us").entries(world.book("us").entries(Position(-1, "", "", 0), 3)[-1].position, 1)[0]
        assert (kind_of(compensation), claim_of(compensation)) == ("compensation", None)
