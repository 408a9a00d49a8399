"""A request, a lot and a claim count once; keys are remembered for their lifetime."""

from ledger.cells import NOTHING, Cell, KeyUse
from ledger.ids import Key, LotId
from ledger.operation import Settle
from ledger.posting import Outcome
from ledger.rules import Rules
from tests.unit.ledger.story import (
    Story,
    debit,
    grant,
    hold,
    release,
    revoke,
)


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


class TestForgetting:
    """Keys are remembered for a lifetime, by the hybrid clock, wherever the operation is folded."""

    RULES = Rules(key_lifetime_ms=100)

    def test_a_key_is_remembered_until_just_before_its_lifetime_is_over(self) -> None:
        story = Story(rules=self.RULES)
        story.do(10, grant("L", 100), key="k")
        assert story.do(109, grant("M", 100), key="k").outcome is Outcome.DUPLICATE
        assert story.do(110, grant("N", 100), key="k").outcome is Outcome.APPLIED

    def test_its_lifetime_begins_with_the_first_use_and_no_repetition_prolongs_it(self) -> None:
        story = Story(rules=self.RULES)
        story.do(10, grant("L", 100), key="k")
        story.do(100, grant("M", 100), key="k")
        assert story.do(110, grant("N", 100), key="k").outcome is Outcome.APPLIED

    def test_a_key_that_is_used_again_begins_another_lifetime(self) -> None:
        story = Story(rules=self.RULES)
        story.do(10, grant("L", 100), key="k", request="a" * 16)
        story.do(110, grant("M", 100), key="k", request="b" * 16)
        assert story.account.key_use(Key("k")) == KeyUse("eu/b1", 2, "b" * 16, 110)
        assert story.do(209, grant("N", 100), key="k").outcome is Outcome.DUPLICATE

    def test_whoever_asks_is_told_what_the_fold_would_remember(self) -> None:
        story = Story(rules=self.RULES)
        story.do(10, grant("L", 100), key="k")
        assert story.account.remembered(Key("k"), 109) == KeyUse("eu/b1", 1, None, 10)
        assert story.account.remembered(Key("k"), 110) is None
        assert story.account.remembered(Key("other"), 10) is None
        assert story.account.key_use(Key("k")) is not None

    def test_a_lot_and_a_claim_stay_taken_when_their_key_is_forgotten(self) -> None:
        story = Story(rules=self.RULES)
        story.do(10, grant("L", 100), key="k1")
        story.do(11, hold("c", 10), key="k2")
        assert story.do(500, grant("L", 100), key="k1").outcome is Outcome.DUPLICATE
        assert story.do(501, hold("c", 10), key="k2").outcome is Outcome.DUPLICATE

    def test_undo_of_a_second_use_brings_back_the_first(self) -> None:
        story = Story(rules=self.RULES)
        story.do(10, grant("L", 100), key="k")
        story.account.undo(story.do(110, grant("M", 100), key="k"))
        assert story.account.key_use(Key("k")) == KeyUse("eu/b1", 1, None, 10)
