"""Somebody says that a conflict was seen to: every region shows it, for good, and no credit moves."""

import pytest

from conflict.contest import MAX_ACKNOWLEDGEMENTS
from conflict.report import Report
from ledger.command import AcknowledgeConflict, OnShortage
from ledger.ids import Key
from ledger.refusal import Refusal
from ledger.timeline import BEGINNING
from node.acknowledging import acknowledge
from node.book import LedgerBook
from node.region import Accepted
from replication.filed import Filed
from tests.regions import UMBRA, Regions, clash, debit, grant, refund, reserve, transfer
from tests.unit.node.test_book import FAR, from_rows
from tests.world import TENANT


@pytest.fixture
def world() -> Regions:
    """Both regions have reserved 80 of 100, and us, the later, has put its books right."""
    world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
    world.put_right()
    return world


LOSER = "us.b2.1.overspend"


def asked(world: Regions, conflict: str, by: str, key: str, region: str = "eu") -> Accepted | Refusal:
    return acknowledge(world.region(region), AcknowledgeConflict(conflict, by), Key(key), world.now)


def said(report: Report) -> list[tuple[str, str | None]]:
    return [(each.by, each.note) for each in report.acknowledged]


def stored_by(book: LedgerBook) -> list[tuple[str, str | None]]:
    """What the row of the loser has."""
    loser = next(filed for filed in book.entries(BEGINNING, 100) if filed.dot == ("us/b2", 1))
    contest = book.stored_contest(loser.position)
    assert contest is not None
    return [(each.by, each.note) for each in contest.acknowledged]


class TestWhatIsShown:
    def test_who_said_what_and_when_by_which_entry_is_the_same_in_every_region(self, world: Regions) -> None:
        filed = world.acknowledge("eu", LOSER, "ann", "told the customer")
        world.meet()
        (shown,) = world.the_report().acknowledged
        assert (shown.by, shown.note) == ("ann", "told the customer")
        assert (shown.dot, shown.position.now) == (filed.dot, world.now - 400)

    def test_it_is_no_state_and_moves_nothing(self, world: Regions) -> None:
        before = world.the_report(), world.posted("us"), world.book("us").account.available(world.now)
        world.acknowledge("us", LOSER)
        world.put_right()
        report = world.the_report()
        assert (report.state, report.amount, report.compensations) == (
            before[0].state, before[0].amount, before[0].compensations,
        )  # fmt: skip
        assert (world.posted("us"), world.book("us").account.available(world.now)) == before[1:]
        assert all(world.audit(name).books_equal for name in world.names)

    def test_two_people_are_both_shown_and_the_second_is_told_that_there_was_one(self, world: Regions) -> None:
        first = world.acknowledge("eu", LOSER, "ann")
        second = world.acknowledge("eu", LOSER, "bob")
        world.meet()
        assert said(world.the_report()) == [("ann", None), ("bob", None)]
        assert [filed.entry.content.again for filed in (first, second)] == [False, True]  # type: ignore[union-attr]

    def test_regions_that_do_not_see_each_other_both_say_so_and_none_loses(self, world: Regions) -> None:
        world.part()
        world.acknowledge("eu", LOSER, "ann")
        world.acknowledge("us", LOSER, "bob")
        world.put_right()
        assert said(world.the_report()) == [("ann", None), ("bob", None)]
        assert world.region("eu").counts.conflicts == {}

    def test_what_is_acknowledged_before_the_books_are_put_right_stays_so(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        world.acknowledge("eu", LOSER)
        world.put_right()
        assert (world.the_report().state, said(world.the_report())) == ("compensated", [("ann", None)])

    def test_a_transfer_that_lost_in_both_accounts_has_two_reports_to_acknowledge(self) -> None:
        world = clash([grant("L", 100)], [], [])
        world.do("eu", grant("U", 10), tenant=UMBRA)
        world.meet()
        world.part()
        world.do("eu", transfer(UMBRA, 30), key="k")
        world.do("us", transfer(UMBRA, 30), key="k")
        world.put_right()
        given, received = sorted(report.id for report in world.reports("eu"))
        assert received == f"{given}.received"
        world.acknowledge("us", received)
        world.meet()
        shown = {report.id: said(report) for report in world.reports("eu")}
        assert shown == {given: [], received: [("ann", None)]}
        assert [each.tenant for each in world.reports("eu") if each.acknowledged] == [UMBRA]


class TestKeys:
    def test_the_same_request_again_is_the_first_reply_again_in_any_region(self, world: Regions) -> None:
        first = world.acknowledge("eu", LOSER, key="k")
        world.meet()
        for region in world.names:
            answer = asked(world, LOSER, "ann", "k", region)
            assert isinstance(answer, Accepted)
            assert (answer.filed.dot, answer.replayed) == (first.dot, True)

    def test_the_same_key_for_something_else_is_refused(self, world: Regions) -> None:
        world.acknowledge("eu", LOSER, key="k")
        answer = asked(world, LOSER, "bob", "k")
        assert isinstance(answer, Refusal)
        assert answer.reason == "idempotency-mismatch"

    def test_one_request_that_two_regions_accept_is_shown_once_by_the_earlier_entry(self, world: Regions) -> None:
        world.part()
        first = world.acknowledge("eu", LOSER, key="k")
        world.acknowledge("us", LOSER, key="k")
        world.put_right()
        assert [each.dot for each in world.the_report().acknowledged] == [first.dot]

    def test_a_key_of_the_tenants_is_neither_used_up_nor_in_the_way(self, world: Regions) -> None:
        world.part()
        world.acknowledge("eu", LOSER, key="k")
        world.do("us", debit("d", 5, OnShortage.DEBT), key="k")
        world.do("eu", grant("M", 50), key="k")
        world.put_right()
        assert {report.kind for report in world.reports("eu")} == {"overspend", "key_mismatch"}
        (lost,) = [report for report in world.reports("eu") if report.kind == "key_mismatch"]
        assert [rival.kind for rival in lost.rivals] == ["debit"], "the acknowledgement is nobody's rival"


class TestRefusals:
    @pytest.mark.parametrize(
        "name", ["us.b2.1.lunch", "us.b2.1.overspend.received", "eu.b1.2.overspend", "us.b2.77.overspend", "nonsense"]
    )
    def test_what_is_no_conflict_here_cannot_be_acknowledged(self, world: Regions, name: str) -> None:
        answer = asked(world, name, "ann", "k")
        assert isinstance(answer, Refusal)
        assert answer.reason == "not-found"

    def test_nor_can_one_that_the_region_has_not_heard_of(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("eu", reserve("a", 80))
        loser = world.do("us", reserve("b", 80))
        world.set_cut("eu", "us", False)
        world.exchange()
        conflict = f"us.{loser.position.boot}.{loser.position.seq}.overspend"
        assert isinstance(asked(world, conflict, "ann", "k", "eu"), Accepted)
        assert isinstance(asked(world, conflict, "ann", "k", "ap"), Refusal)

    def test_more_than_are_kept_are_refused(self, world: Regions) -> None:
        for _ in range(MAX_ACKNOWLEDGEMENTS):
            world.acknowledge("eu", LOSER)
        answer = asked(world, LOSER, "ann", "one-more")
        assert isinstance(answer, Refusal)
        assert answer.fields["field"] == "conflict"

    def test_of_more_that_regions_accepted_without_seeing_each_other_the_first_are_kept(self, world: Regions) -> None:
        world.part()
        entries: list[Filed] = []
        for _ in range(MAX_ACKNOWLEDGEMENTS):
            entries += [world.acknowledge(name, LOSER) for name in ("eu", "us")]
        world.put_right()
        kept = [each.dot for each in world.the_report().acknowledged]
        assert kept == [filed.dot for filed in entries[:MAX_ACKNOWLEDGEMENTS]]


class TestWhatLasts:
    def test_it_is_in_the_row_when_the_loser_was_stable_long_before(self, world: Regions) -> None:
        world.exchange(2_000)
        assert world.book("eu").contests == {}
        world.acknowledge("eu", LOSER)
        world.exchange(2_000)
        for name in world.names:
            assert world.book(name).is_idle
            assert stored_by(from_rows(world, name)) == [("ann", None)]
        assert said(world.the_report()) == [("ann", None)]

    def test_it_survives_a_restart_before_and_after_it_is_checkpointed(self, world: Regions) -> None:
        world.acknowledge("us", LOSER, "ann", "before")
        for name in world.names:
            world.crash(name)
        world.put_right()
        assert said(world.the_report()) == [("ann", "before")]
        world.exchange(2_000)
        for name in world.names:
            world.crash(name)
        world.put_right()
        assert said(world.the_report()) == [("ann", "before")]

    def test_a_region_that_lost_its_disk_learns_it_again(self, world: Regions) -> None:
        world.acknowledge("eu", LOSER)
        world.meet()
        world.lose_disk("us")
        world.put_right()
        assert said(world.the_report()) == [("ann", None)]

    def test_it_is_in_the_row_of_a_loser_that_becomes_stable_later(self, world: Regions) -> None:
        world.acknowledge("eu", LOSER, "ann", "seen")
        world.book("eu").checkpoint(FAR, 100)
        assert stored_by(from_rows(world, "eu")) == [("ann", "seen")]

    def test_of_what_comes_to_nothing_and_comes_back_it_is_remembered(self) -> None:
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
        (detected,) = world.reports("us")
        world.acknowledge("us", detected.id)
        world.meet()
        assert world.reports("us") == []
        book = world.book("us")
        assert [contest.is_void for contest in book.contests.values()] == [True]
        world.put_right()
        assert book.contests == {} or len(book.timeline)
        world.exchange(3_000)
        assert world.book("us").is_idle, "nothing is kept in memory"
        assert world.reports("us") == world.reports("eu") == []

    @pytest.mark.parametrize("was_stable", [False, True])
    def test_it_outlasts_that_nothing_was_wrong_where_the_loser_became_stable(self, was_stable: bool) -> None:
        """And that a compensation was on the way meanwhile; also where the loser was stable when somebody spoke."""
        world = Regions("ap", "eu", "me", "us")
        world.do("eu", grant("L", 160))
        world.do("eu", debit("early", 60))
        world.meet()
        world.part()
        world.do("ap", refund("early", 60))
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.meet_only("eu", "me", "us")
        (detected,) = world.reports("me")
        world.acknowledge("me", detected.id)
        ap = world.book("ap")
        for others in (["eu"], ["me"]) if was_stable else (["eu", "me"],):
            world.meet_only("ap", *others)
            ap.drop_void()
            ap.checkpoint(FAR, 100)
        world.exchange(2_000)
        assert world.reports("ap") == world.reports("ap", TENANT) == [], "nothing is wrong there"
        assert ap.is_idle
        assert len(world.reports("us")[0].compensations) == 1
        world.put_right()
        assert (world.the_report().state, said(world.the_report())) == ("cleared", [("ann", None)])

    def test_it_is_in_the_log_and_takes_no_part_in_the_history_of_credit(self, world: Regions) -> None:
        filed = world.acknowledge("eu", LOSER)
        assert (filed.operation, filed.postings, filed.outcome) == (None, {}, "posted")
        assert filed.entry.tenant == TENANT
        assert filed in world.book("eu").entries(BEGINNING, 100)
