"""What each operation does to one tenant's books, rule by rule, in numbers."""

from collections.abc import Callable

import pytest

from ledger.account import Account
from ledger.cells import NOTHING, Cell, KeyUse
from ledger.claim import ClaimState
from ledger.ids import ClaimId, Key, LotId
from ledger.lot import LotState
from ledger.operation import Operation, Settle
from ledger.posting import Outcome
from ledger.rules import Rules
from tests.properties.histories import Checkpoint
from tests.unit.ledger.story import (
    Story,
    capture,
    debit,
    expire,
    grant,
    hold,
    lapse,
    place,
    refund,
    release,
    renew,
    revoke,
)


class TestBounds:
    """Not what admission allows, which is far less, but what no log can go beyond."""

    MOST = 2**53 - 1

    def test_what_was_given_stops_at_a_bound_and_what_is_beyond_does_nothing(self) -> None:
        story = Story()
        outcomes = [story.do(10, grant(f"L{number}", self.MOST)).outcome for number in range(258)]
        assert outcomes == [Outcome.APPLIED] * 256 + [Outcome.CLOSED] * 2
        assert -story.books["issued"] == 256 * self.MOST
        assert len(story.account.lots) == 256

    @pytest.mark.parametrize("spend", [hold, lambda name, amount: debit(name, amount, at=5)])
    def test_what_is_owed_stops_at_a_bound(self, spend: Callable[[str, int], Operation]) -> None:
        story = Story()
        outcomes = [story.do(10, spend(f"c{number}", self.MOST)).outcome for number in range(258)]
        assert outcomes == [Outcome.APPLIED] * 256 + [Outcome.CLOSED] * 2
        assert -story.books["debt"] == 256 * self.MOST
        assert story.account.claim(ClaimId("c257")) is None

    def test_what_one_claim_has_used_stops_at_a_bound(self) -> None:
        story = Story()
        outcomes = [story.do(10, capture("c", self.MOST, at=5)).outcome for _ in range(258)]
        assert outcomes == [Outcome.OVERRUN] * 256 + [Outcome.CLOSED] * 2
        assert story.claim("c").used_total == story.books["used"] == 256 * self.MOST

    def test_an_operation_beyond_the_bound_is_undone_as_it_was_done(self) -> None:
        story = Story()
        for number in range(256):
            story.do(10, grant(f"L{number}", self.MOST))
        before = story.books
        effect = story.do(11, grant("M", self.MOST), key="k")
        assert (effect.postings, effect.result) == ({}, None)
        story.account.undo(effect)
        assert story.books == before
        assert story.account.key_use(Key("k")) is None


class TestDuplicates:
    def test_the_second_request_under_a_key_does_nothing_and_says_so(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60), key="k")
        effect = story.do(12, debit("d", 10, at=12), key="k")
        assert (effect.postings, effect.outcome, effect.result, effect.changes) == ({}, Outcome.DUPLICATE, None, ())
        assert story.books == {"issued": -100, "lot/L": 40, "held/c": 60}

    def test_a_key_remembers_who_used_it_first_and_with_which_request(self) -> None:
        story = Story()
        story.do(11, grant("L", 100), key="k", request="a" * 16)
        story.do(12, grant("M", 100), key="k", request="b" * 16)
        assert story.account.key_use(Key("k")) == KeyUse("eu/b1", 1, "a" * 16, 11)

    def test_a_lot_is_given_once(self) -> None:
        story = Story()
        story.do(10, grant("L", 100), key="k1")
        effect = story.do(11, grant("L", 70), key="k2")
        assert (effect.postings, effect.outcome) == ({}, Outcome.DUPLICATE)
        assert story.account.lots[LotId("L")].amount == 100

    def test_a_lot_is_given_once_also_when_it_has_been_closed(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, revoke("L"))
        assert story.do(12, grant("L", 100)).outcome is Outcome.DUPLICATE
        assert story.books == {"issued": -100, "revoked": 100}

    def test_holds_and_debits_share_the_names_of_claims(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60))
        assert story.do(12, debit("c", 10, at=12)).outcome is Outcome.DUPLICATE
        story.do(13, debit("d", 10, at=13))
        assert story.do(14, hold("d", 10)).outcome is Outcome.DUPLICATE
        assert story.books == {"issued": -100, "lot/L": 30, "held/c": 60, "used": 10}

    def test_an_operation_on_a_taken_name_uses_up_its_fresh_key(self) -> None:
        story = Story()
        story.do(10, grant("L", 100), key="k1")
        effect = story.do(11, grant("L", 100), key="k2")
        assert [change.cell for change in effect.changes] == [Cell.KEY]
        assert story.do(12, grant("M", 100), key="k2").outcome is Outcome.DUPLICATE

    def test_a_duplicate_key_leaves_the_name_free(self) -> None:
        story = Story()
        story.do(10, grant("L", 100), key="k1")
        story.do(11, grant("M", 100), key="k1")
        assert story.do(12, grant("M", 30), key="k2").outcome is Outcome.APPLIED

    def test_an_operation_without_effect_uses_up_its_key(self) -> None:
        story = Story()
        assert story.do(10, release("nothing"), key="k").outcome is Outcome.CLOSED
        assert story.do(11, grant("L", 100), key="k").outcome is Outcome.DUPLICATE

    def test_operations_without_a_key_are_never_duplicates_of_each_other(self) -> None:
        story = Story()
        assert story.do(10, Settle()).outcome is Outcome.APPLIED
        assert story.do(11, Settle()).outcome is Outcome.APPLIED

    def test_a_duplicate_does_not_even_repay_debt(self) -> None:
        story = Story()
        story.do(10, grant("later", 50, starts=100))
        story.do(11, debit("d", 20, at=11), key="k")
        assert story.do(150, Settle(), key="k").postings == {}
        assert story.do(151, grant("later", 50)).postings == {}
        assert story.books == {"issued": -50, "lot/later": 50, "used": 20, "debt": -20}

    def test_an_entry_that_is_no_operation_has_no_effect(self) -> None:
        assert (NOTHING.postings, NOTHING.outcome, NOTHING.result, NOTHING.changes) == ({}, Outcome.POSTED, None, ())


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


class TestSpendingOrder:
    def test_first_expiring_first_out(self) -> None:
        story = Story()
        story.do(10, grant("late", 50, until=900))
        story.do(11, grant("soon", 50, until=300))
        story.do(12, hold("c", 60))
        assert story.claim("c").held == (("soon", 50), ("late", 10))

    def test_priority_comes_before_expiry(self) -> None:
        story = Story()
        story.do(10, grant("soon", 50, until=300, priority=1))
        story.do(11, grant("late", 50, until=900, priority=0))
        story.do(12, hold("c", 60))
        assert story.claim("c").held == (("late", 50), ("soon", 10))

    def test_of_lots_that_expire_together_the_one_granted_first_pays(self) -> None:
        story = Story()
        story.do(10, grant("zebra", 50))
        story.do(11, grant("ant", 50))
        story.do(12, hold("c", 60))
        assert story.claim("c").held == (("zebra", 50), ("ant", 10))

    def test_a_lot_is_live_from_its_start_to_just_before_its_expiry(self) -> None:
        story = Story()
        story.do(10, grant("L", 50, starts=100, until=200))
        assert [story.account.available(at) for at in (99, 100, 199, 200)] == [0, 50, 50, 0]

    def test_an_empty_lot_is_not_named_in_funding(self) -> None:
        story = Story()
        story.do(10, grant("A", 10, until=300))
        story.do(11, grant("B", 10, until=400))
        story.do(12, hold("c", 10))
        story.do(13, hold("d", 10))
        assert story.claim("d").held == (("B", 10),)


class TestHold:
    def test_a_hold_moves_credit_from_lots_to_the_claim(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        effect = story.do(11, hold("c", 60, lease=500))
        assert (effect.postings, effect.outcome) == ({"lot/L": -60, "held/c": 60}, Outcome.APPLIED)
        assert effect.result == story.claim("c").view()
        claim = story.claim("c")
        assert (claim.state, claim.lease_until, claim.region, claim.amount) == (ClaimState.OPEN, 500, "eu", 60)

    def test_a_hold_that_falls_short_is_part_debt(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        assert story.do(11, hold("c", 60)).postings == {"lot/L": -40, "debt": -20, "held/c": 60}
        assert (story.claim("c").held, story.claim("c").held_debt) == ((("L", 40),), 20)

    def test_a_hold_takes_lots_that_are_live_now(self) -> None:
        story = Story()
        story.do(10, grant("over", 40, until=50))
        story.do(11, grant("coming", 40, starts=200))
        assert story.do(100, hold("c", 60)).postings == {"debt": -60, "held/c": 60}


class TestDebit:
    def test_a_debit_moves_credit_to_used(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        effect = story.do(11, debit("d", 60, at=11))
        assert effect.postings == {"lot/L": -60, "used": 60}
        assert (story.claim("d").state, story.claim("d").is_reservation) == (ClaimState.CLOSED, False)

    def test_a_late_debit_pays_from_lots_live_at_its_own_time(self) -> None:
        story = Story()
        story.do(10, grant("old", 50, until=100))
        story.do(11, grant("new", 50, starts=100))
        assert story.do(150, debit("d", 60, at=90)).postings == {"lot/old": -50, "lot/new": -10, "used": 60}
        assert story.claim("d").used == (("old", 50), ("new", 10))

    def test_what_a_late_debit_lacks_is_repaid_at_once_from_what_is_live_now(self) -> None:
        story = Story()
        story.do(10, grant("new", 50, starts=100))
        effect = story.do(150, debit("d", 60, at=90))
        assert effect.postings == {"lot/new": -50, "debt": -10, "used": 60}
        assert effect.result is not None
        assert (effect.result.funding, effect.result.debt) == ((("new", 50),), 10)

    def test_a_late_debit_finds_nothing_in_a_lot_that_was_closed_meanwhile(self) -> None:
        story = Story()
        story.do(10, grant("old", 50, until=100))
        story.do(110, expire("old"))
        assert story.do(150, debit("d", 20, at=90)).postings == {"debt": -20, "used": 20}


class TestCapture:
    def test_usage_moves_held_credit_in_funding_order(self) -> None:
        story = Story()
        story.do(10, grant("A", 30, until=300))
        story.do(11, grant("B", 30, until=400))
        story.do(12, hold("c", 50))
        effect = story.do(13, capture("c", 40, at=13))
        assert (effect.postings, effect.outcome) == ({"held/c": -40, "used": 40}, Outcome.APPLIED)
        assert story.claim("c").used == (("A", 30), ("B", 10))
        assert story.claim("c").held == (("B", 10),)
        assert story.claim("c").state is ClaimState.OPEN

    def test_the_debt_of_a_hold_is_used_last(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        story.do(11, hold("c", 60))
        story.do(12, capture("c", 50, at=12))
        claim = story.claim("c")
        assert (claim.used, claim.used_debt, claim.held, claim.held_debt) == ((("L", 40),), 10, (), 10)

    def test_a_final_capture_gives_the_rest_back(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60))
        effect = story.do(12, capture("c", 25, at=12, final=True))
        assert effect.postings == {"held/c": -60, "used": 25, "lot/L": 35}
        assert (story.claim("c").state, story.claim("c").held) == (ClaimState.CLOSED, ())

    def test_a_final_capture_cancels_debt_that_was_only_held(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        story.do(11, hold("c", 60))
        assert story.do(12, capture("c", 50, at=12, final=True)).postings == {"held/c": -60, "used": 50, "debt": 10}
        assert story.claim("c").debt == 10

    def test_usage_beyond_the_hold_is_funded_anew(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60))
        effect = story.do(12, capture("c", 80, at=12))
        assert (effect.postings, effect.outcome) == ({"held/c": -60, "lot/L": -20, "used": 80}, Outcome.APPLIED)
        assert story.claim("c").used == (("L", 80),)
        assert story.claim("c").state is ClaimState.OPEN

    def test_an_overrun_that_no_lot_covers_is_debt(self) -> None:
        story = Story()
        story.do(10, grant("L", 60))
        story.do(11, hold("c", 60))
        assert story.do(12, capture("c", 80, at=12)).postings == {"held/c": -60, "debt": -20, "used": 80}

    def test_an_overrun_takes_lots_live_at_its_own_time(self) -> None:
        story = Story()
        story.do(10, grant("old", 50, until=100))
        story.do(11, grant("new", 50, starts=90))
        story.do(12, hold("c", 20))
        story.do(150, capture("c", 60, at=80))
        assert story.claim("c").used == (("old", 50), ("new", 10))

    def test_usage_of_a_reservation_that_has_ended_is_all_overrun(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60, lease=50))
        story.do(60, lapse("c", at=60))
        effect = story.do(70, capture("c", 30, at=40, final=True))
        assert (effect.postings, effect.outcome) == ({"lot/L": -30, "used": 30}, Outcome.OVERRUN)
        assert story.claim("c").state is ClaimState.LAPSED

    def test_usage_of_a_debit_is_all_overrun(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, debit("d", 10, at=11))
        assert story.do(12, capture("d", 5, at=12)).outcome is Outcome.OVERRUN
        assert story.claim("d").used == (("L", 15),)

    def test_usage_of_an_unknown_reservation_is_recorded_all_the_same(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        effect = story.do(11, capture("c", 30, at=11))
        assert (effect.postings, effect.outcome) == ({"lot/L": -30, "used": 30}, Outcome.OVERRUN)
        assert (story.claim("c").state, story.claim("c").amount) == (ClaimState.CLOSED, 0)
        assert story.do(12, hold("c", 10)).outcome is Outcome.DUPLICATE


class TestRelease:
    def test_what_is_held_goes_back_where_it_came_from(self) -> None:
        story = Story()
        story.do(10, grant("A", 30, until=300))
        story.do(11, grant("B", 30, until=400))
        story.do(12, hold("c", 50))
        story.do(13, capture("c", 10, at=13))
        effect = story.do(14, release("c"))
        assert (effect.postings, effect.outcome) == ({"held/c": -40, "lot/A": 20, "lot/B": 20}, Outcome.APPLIED)
        assert (story.claim("c").state, story.claim("c").used) == (ClaimState.CLOSED, (("A", 10),))

    def test_debt_that_was_held_cancels(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        story.do(11, hold("c", 60))
        assert story.do(12, release("c")).postings == {"held/c": -60, "lot/L": 40, "debt": 20}
        assert story.claim("c").owes_since is None

    def test_credit_of_a_closed_lot_has_expired_when_it_comes_back(self) -> None:
        story = Story()
        story.do(10, grant("A", 30, until=100))
        story.do(11, grant("B", 30, until=400))
        story.do(12, hold("c", 60))
        story.do(110, expire("A"))
        story.do(111, revoke("B"))
        assert story.do(120, release("c")).postings == {"held/c": -60, "expired": 60}

    def test_a_lot_past_its_time_but_not_closed_takes_its_credit_back(self) -> None:
        story = Story()
        story.do(10, grant("L", 30, until=100))
        story.do(11, hold("c", 20))
        assert story.do(150, release("c")).postings == {"held/c": -20, "lot/L": 20}

    def test_a_second_release_finds_it_closed(self) -> None:
        story = Story()
        story.do(10, grant("L", 30))
        story.do(11, hold("c", 20))
        story.do(12, release("c"))
        effect = story.do(13, release("c"))
        assert (effect.postings, effect.outcome, effect.result) == ({}, Outcome.CLOSED, story.claim("c").view())

    def test_a_debit_cannot_be_released(self) -> None:
        story = Story()
        story.do(10, grant("L", 30))
        story.do(11, debit("d", 20, at=11))
        assert story.do(12, release("d")).outcome is Outcome.CLOSED
        assert story.books == {"issued": -30, "lot/L": 10, "used": 20}


class TestLease:
    def test_a_renewal_never_shortens_a_lease(self) -> None:
        story = Story()
        story.do(10, hold("c", 20, lease=500))
        assert story.do(11, renew("c", 400)).outcome is Outcome.APPLIED
        assert story.claim("c").lease_until == 500
        assert story.do(12, renew("c", 600)).outcome is Outcome.APPLIED
        assert story.claim("c").lease_until == 600

    def test_a_reservation_that_has_ended_is_not_renewed(self) -> None:
        story = Story()
        story.do(10, hold("c", 20, lease=500))
        story.do(11, release("c"))
        assert story.do(12, renew("c", 600)).outcome is Outcome.CLOSED
        assert story.do(13, renew("unknown", 600)).outcome is Outcome.CLOSED
        assert story.claim("c").lease_until == 500

    def test_a_lease_that_has_ended_lapses(self) -> None:
        story = Story()
        story.do(10, grant("L", 30))
        story.do(11, hold("c", 20, lease=100))
        story.do(12, capture("c", 5, at=12))
        effect = story.do(130, lapse("c", at=100))
        assert (effect.postings, effect.outcome) == ({"held/c": -15, "lot/L": 15}, Outcome.LAPSED)
        assert story.claim("c").state is ClaimState.LAPSED

    def test_a_lease_that_ends_later_does_not_lapse(self) -> None:
        story = Story()
        story.do(11, hold("c", 20, lease=101))
        effect = story.do(130, lapse("c", at=100))
        assert (effect.postings, effect.outcome) == ({}, Outcome.RENEWED)
        assert story.claim("c").state is ClaimState.OPEN

    def test_renewal_beats_a_sweep_that_had_not_seen_it(self) -> None:
        story = Story()
        story.do(10, grant("L", 30))
        story.do(11, hold("c", 20, lease=100))
        story.do(101, renew("c", 300))
        assert story.do(102, lapse("c", at=101)).outcome is Outcome.RENEWED
        assert story.books == {"issued": -30, "lot/L": 10, "held/c": 20}

    def test_what_has_ended_does_not_lapse(self) -> None:
        story = Story()
        story.do(11, hold("c", 20, lease=100))
        story.do(12, release("c"))
        assert story.do(130, lapse("c", at=120)).outcome is Outcome.CLOSED
        assert story.do(131, lapse("unknown", at=120)).outcome is Outcome.CLOSED
        assert story.claim("c").state is ClaimState.CLOSED


class TestRefund:
    def test_debt_is_refunded_first(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        story.do(11, debit("d", 60, at=11))
        effect = story.do(12, refund("d", 30))
        assert effect.postings == {"used": -30, "debt": 20, "lot/L": 10}
        assert (story.claim("d").used, story.claim("d").debt, story.claim("d").owes_since) == ((("L", 30),), 0, None)

    def test_then_the_latest_expiring_lot_is_refunded_first(self) -> None:
        story = Story()
        story.do(10, grant("late", 20, until=900, priority=0))
        story.do(11, grant("soon", 20, until=300, priority=1))
        story.do(12, grant("mid", 20, until=600, priority=2))
        story.do(13, debit("d", 55, at=13))
        assert story.claim("d").used == (("late", 20), ("soon", 20), ("mid", 15))
        assert story.do(14, refund("d", 30)).postings == {"used": -30, "lot/late": 20, "lot/mid": 10}
        assert story.claim("d").used == (("soon", 20), ("mid", 5))

    def test_of_lots_that_expire_together_the_one_granted_last_is_refunded_first(self) -> None:
        story = Story()
        story.do(10, grant("zebra", 20, priority=1))
        story.do(11, grant("ant", 20, priority=0))
        story.do(12, debit("d", 40, at=12))
        assert story.do(13, refund("d", 20)).postings == {"used": -20, "lot/ant": 20}

    def test_a_refund_keeps_the_original_expiry(self) -> None:
        story = Story()
        story.do(10, grant("L", 40, until=100))
        story.do(11, debit("d", 40, at=11))
        story.do(150, refund("d", 40))
        assert story.books == {"issued": -40, "lot/L": 40}
        assert story.account.available(150) == 0

    def test_a_refund_to_a_closed_lot_has_expired(self) -> None:
        story = Story()
        story.do(10, grant("L", 40, until=100))
        story.do(11, debit("d", 40, at=11))
        story.do(100, expire("L"))
        assert story.do(150, refund("d", 30)).postings == {"used": -30, "expired": 30}

    def test_never_more_than_was_used_is_refunded(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, debit("d", 40, at=11))
        story.do(12, refund("d", 30))
        assert story.do(13, refund("d", 30)).postings == {"used": -10, "lot/L": 10}
        effect = story.do(14, refund("d", 30))
        assert (effect.postings, effect.outcome) == ({}, Outcome.CLOSED)

    def test_only_what_was_captured_of_a_reservation_is_refunded(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60))
        story.do(12, capture("c", 20, at=12))
        assert story.do(13, refund("c", 50)).postings == {"used": -20, "lot/L": 20}
        claim = story.claim("c")
        assert (claim.state, claim.held_total, claim.used_total) == (ClaimState.OPEN, 40, 0)

    def test_held_debt_is_not_refunded(self) -> None:
        story = Story()
        story.do(10, grant("L", 20))
        story.do(11, hold("c", 60))
        story.do(12, capture("c", 20, at=12))
        # What comes back to the lot repays what the reservation itself still lacks.
        assert story.do(13, refund("c", 20)).postings == {"used": -20, "debt": 20}
        assert (story.claim("c").held, story.claim("c").held_debt) == ((("L", 20),), 20)

    def test_a_claim_that_nobody_knows_cannot_be_refunded(self) -> None:
        assert Story().do(10, refund("d", 30)).outcome is Outcome.CLOSED


class TestClosingLots:
    def test_a_revoked_lot_loses_what_remains(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60))
        effect = story.do(12, revoke("L"))
        assert (effect.postings, effect.outcome) == ({"lot/L": -40, "revoked": 40}, Outcome.APPLIED)
        assert story.books == {"issued": -100, "held/c": 60, "revoked": 40}
        assert story.account.lots[LotId("L")].state is LotState.REVOKED

    def test_what_is_held_of_a_revoked_lot_can_still_be_used(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60))
        story.do(12, revoke("L"))
        assert story.do(13, capture("c", 60, at=13)).postings == {"held/c": -60, "used": 60}

    def test_an_empty_lot_is_closed_without_postings(self) -> None:
        story = Story()
        story.do(10, grant("L", 10, until=100))
        story.do(11, hold("c", 10))
        effect = story.do(100, expire("L"))
        assert (effect.postings, effect.outcome) == ({}, Outcome.APPLIED)
        assert story.account.lots[LotId("L")].state is LotState.EXPIRED

    def test_a_lot_expires_at_its_time_and_not_before(self) -> None:
        story = Story()
        story.do(10, grant("L", 10, until=100))
        effect = story.do(99, expire("L"))
        assert (effect.postings, effect.outcome) == ({}, Outcome.EARLY)
        assert story.do(100, expire("L")).postings == {"lot/L": -10, "expired": 10}

    def test_a_lot_is_closed_once(self) -> None:
        story = Story()
        story.do(10, grant("L", 10, until=100))
        story.do(11, revoke("L"))
        assert story.do(110, expire("L")).outcome is Outcome.CLOSED
        assert story.do(111, revoke("L")).outcome is Outcome.CLOSED
        assert story.books == {"issued": -10, "revoked": 10}

    def test_an_unknown_lot_cannot_be_closed(self) -> None:
        story = Story()
        assert story.do(10, revoke("L")).outcome is Outcome.CLOSED
        assert story.do(11, expire("L")).outcome is Outcome.CLOSED

    def test_debt_takes_a_started_lot_before_its_revocation_can(self) -> None:
        story = Story()
        story.do(10, grant("L", 50, starts=50))
        story.do(11, debit("d", 30, at=11))
        assert story.do(60, revoke("L")).postings == {"lot/L": -50, "debt": 30, "revoked": 20}


class TestWhatIsAvailable:
    def test_available_is_live_credit_less_debt_and_may_be_negative(self) -> None:
        story = Story()
        story.do(10, grant("now", 50, until=100))
        story.do(11, grant("then", 70, starts=100))
        story.do(12, debit("d", 80, at=12))
        assert (story.account.available(12), story.account.available(100)) == (-30, 40)
        assert story.account.live_credit(100) == 70

    def test_credit_at_either_time_counts_a_lot_once(self) -> None:
        story = Story()
        story.do(10, grant("old", 5, until=100))
        story.do(11, grant("both", 7))
        story.do(12, grant("new", 11, starts=100))
        story.do(13, grant("neither", 13, starts=500))
        assert story.account.credit_at_either(50, 150, "eu") == 5 + 7 + 11

    def test_held_is_the_sum_of_all_reservations(self) -> None:
        story = Story()
        story.do(10, grant("L", 50))
        story.do(11, hold("a", 30))
        story.do(12, hold("b", 40))
        story.do(13, capture("a", 10, at=13))
        assert story.account.held == 60


def checkpointed() -> tuple[Story, Checkpoint]:
    """A tenant whose debit of 30 from a lot of 100 is checkpointed and no longer in memory."""
    past = Checkpoint()
    story = Story(past)
    effects = [story.do(10, grant("L", 100)), story.do(11, debit("d", 30, at=11), key="k")]
    past.take(effects)
    for effect in effects:
        story.account.forget(effect)
    return story, past


class TestThePast:
    def test_an_account_starts_empty(self) -> None:
        account = Account(Rules())
        assert set(account.totals.values()) == {0}
        assert (account.available(0), account.held, account.lots, account.claims) == (0, 0, {}, {})
        assert (account.claim(ClaimId("c")), account.key_use(Key("k"))) == (None, None)

    def test_ended_claims_and_keys_leave_memory_and_lots_stay(self) -> None:
        story, _ = checkpointed()
        assert (story.account.claims, story.account.keys) == ({}, {})
        assert story.account.lots[LotId("L")].remaining == 70

    def test_the_past_still_knows_keys_and_names_that_were_used(self) -> None:
        story, _ = checkpointed()
        assert story.do(20, grant("M", 10), key="k").outcome is Outcome.DUPLICATE
        assert story.do(21, hold("d", 10)).outcome is Outcome.DUPLICATE

    def test_a_claim_of_the_past_can_be_refunded_and_run_over(self) -> None:
        story, _ = checkpointed()
        assert story.do(20, refund("d", 20)).postings == {"used": -20, "lot/L": 20}
        assert story.do(21, capture("d", 5, at=21)).postings == {"lot/L": -5, "used": 5}
        assert story.claim("d").used == (("L", 15),)

    def test_what_touches_a_claim_of_the_past_is_undone_without_a_trace(self) -> None:
        story, past = checkpointed()
        for operation in (refund("d", 20), capture("d", 5, at=20), release("d"), lapse("d", at=20), renew("d", 90)):
            effect = story.do(20, operation)
            assert ClaimId("d") in story.account.claims
            story.account.undo(effect)
            assert story.account.claims == {}
            assert story.claim("d") is past.claims[ClaimId("d")]

    def test_open_and_owing_claims_are_not_forgotten(self) -> None:
        story = Story()
        effects = [story.do(10, hold("c", 30)), story.do(11, release("c")), story.do(12, debit("d", 30, at=12))]
        effects.append(story.do(13, hold("e", 5)))
        for effect in effects:
            story.account.forget(effect)
        assert story.account.claims.keys() == {"d", "e"}

    def test_a_claim_that_something_later_has_changed_is_not_forgotten(self) -> None:
        story = Story()
        effect = story.do(10, debit("d", 30, at=10))
        story.do(11, grant("L", 100))
        story.account.forget(effect)
        assert story.claim("d").used == (("L", 30),)

    def test_a_loaded_account_knows_the_debts_and_the_spending_order(self) -> None:
        story = Story()
        story.do(10, debit("d", 30, at=10))
        story.do(11, grant("late", 20, starts=50, until=900))
        story.do(12, grant("soon", 20, starts=50, until=300))
        story.do(13, grant("gone", 20, starts=50))
        story.do(14, revoke("gone"))
        loaded = Account(Rules())
        loaded.load(
            story.account.totals, story.account.policy, story.account.lots.values(), story.account.claims.values()
        )
        effect = loaded.apply(Settle(), place(60, 9), None, None)
        assert effect.postings == {"lot/soon": -20, "lot/late": -10, "debt": 30}


class TestUndo:
    def test_undo_takes_back_lots_claims_keys_and_totals(self) -> None:
        story = Story()
        story.do(10, debit("d", 30, at=10))
        before = dict(story.books)
        effect = story.do(11, grant("L", 100), key="k")
        story.account.undo(effect)
        assert story.books == before
        assert (story.account.lots, story.account.keys, story.account.spending_order) == ({}, {}, [])
        assert story.claim("d").debt == 30

    def test_undo_of_a_claim_that_was_short_leaves_no_debtor(self) -> None:
        story = Story()
        story.account.undo(story.do(10, hold("c", 5)))
        assert (story.account.debtors, story.account.claims, story.books) == ({}, {}, {})

    def test_undo_opens_a_lot_again_at_its_place_in_the_spending_order(self) -> None:
        story = Story()
        story.do(10, grant("soon", 10, until=300))
        story.do(11, grant("late", 10, until=900))
        story.account.undo(story.do(12, revoke("soon")))
        assert [spending.lot for spending in story.account.spending_order] == ["soon", "late"]

    def test_an_effect_remembers_each_cell_before_and_after(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        old = story.account.lots[LotId("L")]
        effect = story.do(11, hold("c", 60), key="k")
        assert [(change.cell, change.id, change.old, change.new) for change in effect.changes] == [
            (Cell.LOT, "L", old, story.account.lots[LotId("L")]),
            (Cell.CLAIM, "c", None, story.claim("c")),
            (Cell.KEY, "k", None, KeyUse("eu/b1", 2, None, 11)),
        ]
