"""How far a tenant's books go, whatever stands in the log."""

from collections.abc import Callable

import pytest

from ledger.ids import ClaimId, Key
from ledger.operation import Operation
from ledger.posting import Outcome
from tests.unit.ledger.story import (
    Story,
    capture,
    debit,
    grant,
    hold,
    transfer,
    usage,
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

    @pytest.mark.parametrize(
        "spend",
        [hold, lambda name, amount: debit(name, amount, at=5), lambda name, amount: transfer(f"~{name}", amount)],
    )
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

    def test_what_a_job_is_charged_stops_at_a_bound(self) -> None:
        story = Story()
        outcomes = [story.do(10, usage("train", number, number + 1, self.MOST)).outcome for number in range(258)]
        assert outcomes == [Outcome.OVERRUN] * 256 + [Outcome.CLOSED] * 2
        assert story.job("train").charged == 256 * self.MOST
        assert story.job("train").covered == ((0, 256),)

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
