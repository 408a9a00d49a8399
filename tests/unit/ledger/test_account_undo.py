"""What an operation did can be taken back, and what is checkpointed can be let go of."""

from ledger.account import Account
from ledger.cells import Cell, KeyUse
from ledger.ids import ClaimId, Key, LotId
from ledger.operation import Settle
from ledger.posting import Outcome
from ledger.rules import Rules
from tests.properties.histories import Checkpoint
from tests.unit.ledger.story import (
    VOID,
    Story,
    capture,
    debit,
    grant,
    hold,
    lapse,
    place,
    refund,
    release,
    renew,
    revoke,
)


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

    def test_a_key_that_was_used_again_since_is_not_forgotten(self) -> None:
        story = Story(rules=Rules(key_lifetime_ms=100))
        first = story.do(10, grant("L", 100), key="k")
        story.do(110, grant("M", 100), key="k")
        story.account.forget(first)
        use = story.account.key_use(Key("k"))
        assert use is not None
        assert use.at == 110

    def test_a_loaded_account_knows_the_debts_the_spending_order_and_the_rule(self) -> None:
        story = Story()
        story.do(9, VOID)
        story.do(10, debit("d", 30, at=10))
        story.do(11, grant("late", 20, starts=50, until=900))
        story.do(12, grant("soon", 20, starts=50, until=300))
        story.do(13, grant("gone", 20, starts=50))
        story.do(14, revoke("gone"))
        loaded = Account(Rules())
        loaded.load(
            story.account.totals, story.account.policy, story.account.lots.values(), story.account.claims.values()
        )
        assert loaded.policy == VOID
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
