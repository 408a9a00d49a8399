"""Tenants under escrow, in whole regions: shares, refusals, credit that moves, debts, and what stays impossible."""

from ledger.command import GrantCredit, OnShortage, ReportUsage, SetPolicy
from ledger.ids import JobId, LotId
from ledger.operation import Admission, Move, Settle
from ledger.refusal import Reason, Refusal
from ledger.timeline import BEGINNING
from tests.regions import HOUR_MS, Regions, debit, grant, release, reserve, revoke
from tests.world import START_MS, TENANT

ESCROW = SetPolicy(admission=Admission.ESCROW)


def under_escrow(*names: str, amount: int = 90) -> Regions:
    """Regions with even shares of one grant, which all of them know."""
    world = Regions(*names)
    world.do(names[0], grant("seed", 1))
    world.do(names[0], ESCROW)
    world.do(names[0], revoke("seed"))
    world.do(names[0], grant("L", amount))
    world.meet()
    return world


def remaining(world: Regions, name: str) -> dict[str, int]:
    lots = world.book(name).account.lots.values()
    return {lot.id: lot.remaining for lot in lots if lot.remaining}


def available(world: Regions, name: str) -> int:
    return world.book(name).account.available(world.now, name)


def refused(world: Regions, name: str, amount: int) -> Refusal:
    answer = world.ask(name, reserve(None, amount))
    assert isinstance(answer, Refusal)
    return answer


class TestShares:
    def test_a_grant_is_split_into_one_lot_for_each_region(self) -> None:
        world = under_escrow("ap", "eu", "us", amount=100)
        assert remaining(world, "us") == {"L@ap": 34, "L@eu": 33, "L@us": 33}

    def test_weights_of_the_grant_decide_how(self) -> None:
        world = under_escrow("ap", "eu", "us")
        world.do("eu", GrantCredit(10, START_MS + HOUR_MS, lot=LotId("M"), weights=(("eu", 1), ("us", 3))))
        assert {lot: left for lot, left in remaining(world, "eu").items() if lot.startswith("M")} == {
            "M@eu": 2, "M@us": 8,
        }  # fmt: skip

    def test_weights_of_regions_that_are_not_there_are_refused(self) -> None:
        world = under_escrow("eu", "us")
        for weights in ((("mars", 1),), (("eu", 0),)):
            answer = world.ask("eu", GrantCredit(10, START_MS + HOUR_MS, weights=weights))
            assert isinstance(answer, Refusal)
            assert answer.fields["field"] == "weights"

    def test_weights_are_of_no_use_without_escrow(self) -> None:
        world = Regions("eu", "us")
        answer = world.ask("eu", GrantCredit(10, START_MS + HOUR_MS, weights=(("eu", 1),)))
        assert isinstance(answer, Refusal)
        assert answer.fields["field"] == "weights"

    def test_credit_from_before_the_escrow_belongs_to_the_region_that_granted_it(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("old", 50))
        world.do("eu", ESCROW)
        world.meet()
        assert (available(world, "eu"), available(world, "us")) == (50, 0)

    def test_revoking_the_grant_closes_all_its_shares(self) -> None:
        world = under_escrow("eu", "us")
        world.do("us", revoke("L"))
        world.meet()
        assert remaining(world, "eu") == {}
        assert world.book("eu").account.totals["revoked"] == 91

    def test_what_a_share_of_a_revoked_grant_should_have_paid_is_told_as_revoked(self) -> None:
        world = under_escrow("eu", "us")
        world.do("eu", grant("M", 100, until=2 * HOUR_MS))
        world.meet()
        world.part()
        world.do("eu", revoke("L"))
        world.do("us", debit("d", 30))
        world.put_right()
        report = world.the_report()
        assert (report.kind, report.debt) == ("revoked", 0)
        assert [(share.lot, share.recorded, share.canonical) for share in report.lots] == [
            ("L@us", -30, 0), ("M@us", 0, -30),
        ]  # fmt: skip

    def test_a_name_that_a_grant_in_shares_has_is_taken(self) -> None:
        world = under_escrow("eu", "us")
        world.do("eu", SetPolicy())
        for name in ("L", "L@us"):
            answer = world.ask("eu", grant(name, 1))
            assert isinstance(answer, Refusal)
            assert answer.reason is Reason.ALREADY_EXISTS


class TestSpending:
    def test_regions_that_do_not_see_each_other_cannot_spend_the_same_credit(self) -> None:
        world = under_escrow("eu", "us")
        world.part()
        for name in ("eu", "us"):
            world.do(name, reserve(f"c-{name}", 45))
            answer = refused(world, name, 1)
            assert (answer.reason, answer.fields["available"]) == (Reason.INSUFFICIENT_CREDIT, 0)
            assert answer.fields["elsewhere"] == 45
        world.put_right()
        assert world.reports("eu") == world.reports("us") == []
        assert world.book("eu").account.totals["debt"] == 0

    def test_without_escrow_the_same_story_ends_in_debt(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 90))
        world.meet()
        world.part()
        for name in ("eu", "us"):
            world.do(name, reserve(f"c-{name}", 90))
        world.put_right()
        assert world.the_report().debt == 90

    def test_what_was_held_goes_back_to_the_share_that_paid_whoever_releases(self) -> None:
        world = under_escrow("eu", "us")
        world.do("eu", reserve("c", 30))
        world.meet()
        world.do("us", release("c"))
        world.meet()
        assert (available(world, "eu"), available(world, "us")) == (45, 45)

    def test_a_region_repays_its_own_debts_only(self) -> None:
        world = under_escrow("eu", "us")
        world.part()
        world.do("us", debit("d", 60, OnShortage.DEBT))
        world.do("eu", reserve("c", 45))
        world.put_right()
        account = world.book("eu").account
        assert (account.debt("us"), account.debt("eu")) == (15, 0)
        assert world.reports("eu") == []

    def test_the_tenant_is_optimistic_again_when_its_policy_says_so(self) -> None:
        world = under_escrow("eu", "us")
        world.do("eu", SetPolicy())
        world.meet()
        world.do("us", reserve("c", 90))
        assert remaining(world, "us") == {}


class TestMoves:
    def test_a_refusal_has_the_region_ask_those_who_have_what_is_lacking(self) -> None:
        world = under_escrow("ap", "eu", "us")
        refused(world, "us", 60)
        world.exchange()
        assert available(world, "us") == 60
        world.do("us", reserve("c", 60))
        world.put_right()
        assert world.reports("us") == []
        assert sum(remaining(world, "ap").values()) == 30

    def test_who_is_cut_off_is_not_asked(self) -> None:
        world = under_escrow("ap", "eu", "us")
        world.part("ap")
        refused(world, "us", 90)
        world.exchange()
        assert available(world, "us") == 60

    def test_a_region_gives_no_more_than_it_has_free(self) -> None:
        world = under_escrow("eu", "us")
        world.do("eu", reserve("c", 40))
        world.meet()
        refused(world, "us", 90)
        world.exchange()
        assert (available(world, "us"), available(world, "eu")) == (50, 0)

    def test_a_region_that_runs_low_asks_before_anybody_is_refused(self) -> None:
        world = under_escrow("eu", "us")
        world.do("us", reserve("c", 40))
        world.exchange()
        assert available(world, "us") == 12
        assert available(world, "eu") == 38

    def test_giving_away_is_no_reason_to_ask(self) -> None:
        world = under_escrow("eu", "us", amount=40)
        world.do("us", reserve("c", 20))
        world.exchange(2_000)
        entries = world.book("eu").entries(BEGINNING, 1000)
        assert sum(isinstance(filed.entry.content, Move) for filed in entries) == 1

    def test_only_a_share_of_its_own_can_be_given_away(self) -> None:
        world = under_escrow("eu", "us")
        region = world.region("eu")
        for tenant, to, amount in ((TENANT, "us", 10**6), (TENANT, "eu", 5)):
            region.give(tenant, to, amount, world.now)
        world.meet()
        assert remaining(world, "us") == {"L@us": 90}

    def test_credit_that_was_moved_expires_as_it_would_have(self) -> None:
        world = under_escrow("eu", "us")
        refused(world, "us", 90)
        world.exchange()
        world.pass_time(HOUR_MS)
        world.put_right()
        world.put_right()
        account = world.book("us").account
        assert (account.totals["expired"], remaining(world, "us")) == (90, {})

    def test_credit_that_comes_to_a_region_with_debt_repays_it(self) -> None:
        world = under_escrow("eu", "us")
        world.do("us", debit("d", 60, OnShortage.DEBT))
        world.exchange(3_000)
        account = world.book("us").account
        assert (account.debt("us"), account.totals["debt"]) == (0, 0)
        entries = world.book("us").entries(BEGINNING, 1000)
        assert any(isinstance(filed.operation, Settle) and filed.position.region == "us" for filed in entries)

    def test_usage_beyond_the_shares_is_debt_and_asks_for_more(self) -> None:
        world = under_escrow("eu", "us")
        world.pass_time(10)
        world.do("us", ReportUsage(JobId("j"), world.now, world.now - 5, 50))
        assert world.book("us").account.debt("us") == 5
        world.exchange(3_000)
        assert world.book("us").account.debt("us") == 0
