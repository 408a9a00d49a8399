"""A tenant's rules: what becomes of a hold that falls short, and from where on a rule counts."""

from ledger.cells import DEFAULT_POLICY, Cell
from ledger.claim import ClaimState
from ledger.operation import OnOverspend, Policy, Settle
from ledger.posting import Outcome
from tests.unit.ledger.story import (
    VOID,
    Story,
    capture,
    debit,
    grant,
    hold,
    lapse,
    refund,
    release,
    renew,
    transfer,
    usage,
)

GIFT = "~" + 24 * "a"


def strict(credit: int) -> Story:
    """A tenant with some credit whose holds are void when they fall short."""
    story = Story()
    story.do(10, grant("L", credit))
    story.do(11, VOID)
    return story


class TestAHoldThatFallsShort:
    def test_is_void_and_takes_nothing(self) -> None:
        story = strict(40)
        effect = story.do(12, hold("c", 60, job="train"))
        assert (effect.postings, effect.outcome) == ({}, Outcome.REVOKED)
        assert effect.result == story.claim("c").view()
        claim = story.claim("c")
        assert (claim.state, claim.amount, claim.held_total, claim.debt) == (ClaimState.REVOKED, 60, 0, 0)
        assert story.books == {"issued": -40, "lot/L": 40}

    def test_is_void_by_one_unit_and_stands_without(self) -> None:
        story = strict(40)
        assert story.do(12, hold("c", 41)).outcome is Outcome.REVOKED
        assert story.do(13, hold("d", 40)).outcome is Outcome.APPLIED
        assert story.do(14, hold("e", 1)).outcome is Outcome.REVOKED

    def test_keeps_its_name_so_that_whoever_asks_for_it_learns_what_became_of_it(self) -> None:
        story = strict(40)
        story.do(12, hold("c", 60))
        effect = story.do(13, hold("c", 10))
        assert (effect.outcome, effect.postings) == (Outcome.DUPLICATE, {})
        assert story.claim("c").state is ClaimState.REVOKED

    def test_cannot_be_renewed_released_or_lapse(self) -> None:
        story = strict(40)
        story.do(12, hold("c", 60, lease=100))
        for operation in (renew("c", 900), release("c"), lapse("c", at=200)):
            effect = story.do(200, operation)
            assert (effect.outcome, effect.postings) == (Outcome.CLOSED, {})
            assert effect.result == story.claim("c").view()
        assert story.claim("c").lease_until == 100

    def test_usage_captured_on_it_is_an_overrun(self) -> None:
        story = strict(40)
        story.do(12, hold("c", 60))
        effect = story.do(13, capture("c", 50, at=13, final=True))
        assert (effect.postings, effect.outcome) == ({"lot/L": -40, "debt": -10, "used": 50}, Outcome.OVERRUN)
        assert (story.claim("c").state, story.claim("c").used_total) == (ClaimState.REVOKED, 50)

    def test_is_still_its_jobs_reservation(self) -> None:
        story = strict(40)
        story.do(12, hold("c", 60, job="train"))
        effect = story.do(13, usage("train", 12, 13, 30))
        assert (effect.outcome, effect.postings) == (Outcome.OVERRUN, {"lot/L": -30, "used": 30})
        assert (story.claim("c").used, story.job("train").unreserved) == ((("L", 30),), 0)

    def test_is_void_while_debt_stands(self) -> None:
        story = strict(40)
        story.do(12, debit("d", 50, at=12))
        assert story.do(13, hold("c", 1)).outcome is Outcome.REVOKED

    def test_counts_what_is_left_after_debt_is_repaid(self) -> None:
        story = strict(10)
        story.do(12, debit("d", 30, at=12))
        story.do(13, grant("M", 50, starts=100))
        effect = story.do(100, hold("c", 31))
        assert (effect.outcome, effect.postings) == (Outcome.REVOKED, {"lot/M": -20, "debt": 20})
        assert story.do(101, hold("d2", 30)).outcome is Outcome.APPLIED

    def test_what_comes_back_after_it_was_judged_does_not_wake_it(self) -> None:
        story = strict(40)
        story.do(12, debit("d", 30, at=12))
        story.do(13, hold("c", 40))
        story.do(14, refund("d", 30))
        assert story.claim("c").state is ClaimState.REVOKED
        assert story.books == {"issued": -40, "lot/L": 40}


class TestWhatElseFallsShort:
    def test_usage_and_transfers_are_owed_under_either_rule(self) -> None:
        story = strict(10)
        assert story.do(12, debit("d", 15, at=12)).postings == {"lot/L": -10, "debt": -5, "used": 15}
        assert story.do(13, usage("train", 12, 13, 7)).postings == {"debt": -7, "used": 7}
        assert story.do(14, transfer(GIFT, 3)).postings == {"debt": -3, "transferred": 3}


class TestWhereItCounts:
    def test_nothing_is_void_before_its_place(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        story.do(11, hold("before", 60))
        story.do(12, VOID)
        assert story.claim("before").state is ClaimState.OPEN
        assert story.do(13, hold("after", 1)).outcome is Outcome.REVOKED

    def test_the_latest_is_the_rule(self) -> None:
        story = strict(40)
        story.do(12, Policy(OnOverspend.DEBT))
        assert story.do(13, hold("c", 60)).postings == {"lot/L": -40, "debt": -20, "held/c": 60}

    def test_a_duplicate_changes_no_rule(self) -> None:
        story = Story()
        story.do(10, grant("L", 40), key="k")
        assert story.do(11, VOID, key="k").outcome is Outcome.DUPLICATE
        assert story.account.policy == DEFAULT_POLICY

    def test_limits_are_for_admission_and_the_fold_takes_no_notice_of_them(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        story.do(11, Policy(max_held=10, debt_limit=0))
        assert story.do(12, hold("c", 60)).outcome is Outcome.APPLIED

    def test_a_policy_repays_debt_as_everything_does(self) -> None:
        story = Story()
        story.do(10, debit("d", 30, at=10))
        story.do(11, grant("L", 50, starts=100))
        effect = story.do(100, VOID)
        assert (effect.outcome, effect.postings, effect.result) == (Outcome.APPLIED, {"lot/L": -30, "debt": 30}, None)

    def test_undo_puts_the_rule_before_back(self) -> None:
        story = strict(40)
        effect = story.do(12, Policy(max_held=5))
        assert [(change.cell, change.old, change.new) for change in effect.changes] == [
            (Cell.POLICY, VOID, Policy(max_held=5))
        ]
        story.account.undo(effect)
        assert story.account.policy == VOID

    def test_undo_of_a_void_hold_leaves_no_trace(self) -> None:
        story = strict(40)
        story.account.undo(story.do(12, hold("c", 60, job="train"), key="k"))
        assert (story.account.claims, story.account.jobs, story.account.keys) == ({}, {}, {})
        assert story.do(13, Settle()).postings == {}
