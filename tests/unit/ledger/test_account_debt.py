"""Debt is repaid first, the oldest debtor first, from what is live."""

from ledger.operation import Settle
from ledger.posting import Outcome
from tests.unit.ledger.story import (
    Story,
    capture,
    debit,
    grant,
    hold,
    place,
    refund,
    release,
)


class TestDebt:
    def test_a_grant_settles_debt_in_its_own_entry(self) -> None:
        story = Story()
        story.do(10, debit("d", 30, at=10))
        effect = story.do(20, grant("L", 100))
        assert effect.postings == {"issued": -100, "lot/L": 70, "debt": 30}
        assert (story.claim("d").used, story.claim("d").debt, story.claim("d").owes_since) == ((("L", 30),), 0, None)

    def test_a_grant_that_has_not_started_settles_nothing(self) -> None:
        story = Story()
        story.do(10, debit("d", 30, at=10))
        assert story.do(20, grant("L", 100, starts=50)).postings == {"issued": -100, "lot/L": 100}

    def test_a_settle_repays_what_a_started_lot_can(self) -> None:
        story = Story()
        story.do(10, debit("d", 30, at=10))
        story.do(20, grant("L", 20, starts=50))
        assert story.do(49, Settle()).postings == {}
        assert story.do(50, Settle()).postings == {"lot/L": -20, "debt": 20}
        assert story.claim("d").debt == 10

    def test_debt_is_repaid_before_an_operation_so_that_it_cannot_spend_that_credit(self) -> None:
        story = Story()
        story.do(10, debit("d", 30, at=10))
        story.do(20, grant("L", 50, starts=50))
        effect = story.do(60, hold("c", 40))
        assert effect.postings == {"lot/L": -50, "debt": 10, "held/c": 40}
        assert (story.claim("d").debt, story.claim("c").held, story.claim("c").held_debt) == (0, (("L", 20),), 20)

    def test_the_oldest_debtor_is_repaid_first(self) -> None:
        story = Story()
        story.do(10, debit("first", 30, at=10))
        story.do(11, debit("second", 30, at=11))
        story.do(20, grant("L", 40))
        assert (story.claim("first").debt, story.claim("second").debt) == (0, 20)

    def test_a_debtor_that_owes_more_keeps_its_age(self) -> None:
        story = Story()
        story.do(10, hold("first", 10))
        story.do(11, debit("second", 10, at=11))
        story.do(12, capture("first", 25, at=12))
        story.do(20, grant("L", 26))
        assert (story.claim("first").debt, story.claim("second").debt) == (0, 9)
        assert story.claim("second").owes_since == place(11, 2)

    def test_a_debtor_that_was_repaid_and_owes_again_is_young(self) -> None:
        story = Story()
        story.do(10, hold("first", 10))
        story.do(11, grant("L", 10))
        story.do(12, debit("second", 10, at=12))
        story.do(13, capture("first", 15, at=13))
        assert story.claim("first").owes_since == place(13, 4)
        story.do(20, grant("M", 10))
        assert (story.claim("first").debt, story.claim("second").debt) == (5, 0)

    def test_a_debtor_repaid_before_its_own_operation_owes_anew_from_there(self) -> None:
        story = Story()
        story.do(10, hold("c", 10))
        story.do(11, grant("L", 10, starts=50))
        story.do(60, capture("c", 15, at=10))
        assert (story.claim("c").used, story.claim("c").used_debt) == ((("L", 10),), 5)
        assert story.claim("c").owes_since == place(60, 3)

    def test_what_was_used_is_repaid_before_what_is_only_held(self) -> None:
        story = Story()
        story.do(10, hold("c", 30))
        story.do(11, capture("c", 10, at=11))
        story.do(12, grant("L", 15))
        claim = story.claim("c")
        assert (claim.used, claim.used_debt, claim.held, claim.held_debt) == ((("L", 10),), 0, (("L", 5),), 15)

    def test_debt_is_repaid_in_spending_order(self) -> None:
        story = Story()
        story.do(10, grant("long", 20, starts=50, until=900))
        story.do(11, grant("short", 20, starts=50, until=300))
        story.do(12, debit("d", 30, at=12))
        assert story.do(60, Settle()).postings == {"lot/short": -20, "lot/long": -10, "debt": 30}
        assert story.claim("d").used == (("short", 20), ("long", 10))

    def test_a_repaid_part_stands_behind_what_other_lots_pay(self) -> None:
        story = Story()
        story.do(10, grant("long", 10, until=900))
        story.do(11, hold("c", 15))
        story.do(12, grant("short", 10, until=300))
        assert story.claim("c").held == (("long", 10), ("short", 5))

    def test_a_repaid_part_joins_the_part_that_the_lot_paid_already(self) -> None:
        story = Story()
        story.do(10, grant("A", 10, until=300))
        story.do(11, grant("B", 10, until=400))
        story.do(12, debit("early", 4, at=12))
        story.do(13, hold("c", 20))
        assert story.claim("c").held == (("A", 6), ("B", 10))
        assert story.do(14, refund("early", 4)).postings == {"used": -4, "debt": 4}
        assert story.claim("c").held == (("A", 10), ("B", 10))

    def test_credit_that_comes_back_repays_debt_at_once(self) -> None:
        story = Story()
        story.do(10, grant("L", 50))
        story.do(11, hold("c", 50))
        story.do(12, debit("d", 30, at=12))
        assert story.do(13, release("c")).postings == {"held/c": -50, "lot/L": 20, "debt": 30}
        assert story.claim("d").used == (("L", 30),)

    def test_expired_credit_that_comes_back_repays_nothing(self) -> None:
        story = Story()
        story.do(10, grant("L", 50, until=100))
        story.do(11, hold("c", 50))
        story.do(12, debit("d", 30, at=12))
        assert story.do(100, release("c")).postings == {"held/c": -50, "lot/L": 50}
        assert story.account.available(100) == -30

    def test_an_operation_that_finds_nothing_to_do_still_repays(self) -> None:
        story = Story()
        story.do(10, grant("L", 50, starts=50))
        story.do(11, debit("d", 30, at=11))
        effect = story.do(60, release("nothing"))
        assert (effect.outcome, effect.postings) == (Outcome.CLOSED, {"lot/L": -30, "debt": 30})
