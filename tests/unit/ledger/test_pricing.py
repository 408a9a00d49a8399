"""What work costs: exact to the end, each part of the time at its own rates, rounded up once."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.amount import MAX_AMOUNT
from ledger.pricing import HOUR_MS, NoPrice, RateCard, Rates, Work

CARD = RateCard(
    [
        Rates(10 * HOUR_MS, {"a100": Fraction(90), "h100": Fraction(200)}, {"high": Fraction(2)}),
        Rates(0, {"a100": Fraction(60)}, {"high": Fraction(3, 2), "low": Fraction(1, 2)}),
    ]
)
"""An A100 costs 60 an hour, from hour 10 on 90; the newer rates are named first on purpose."""

A100 = Work("a100", 1)


def refused(work: Work, start: int = 0, end: int = HOUR_MS, card: RateCard = CARD) -> tuple[str, str]:
    """The field and the rule."""
    answer = card.price(work, start, end)
    assert isinstance(answer, NoPrice)
    return answer.field, answer.rule


class TestPrice:
    def test_it_is_gpus_times_hours_times_rate(self) -> None:
        assert CARD.price(A100, 0, HOUR_MS) == 60
        assert CARD.price(Work("a100", 8), HOUR_MS, 4 * HOUR_MS) == 8 * 3 * 60

    def test_a_class_of_work_multiplies_it(self) -> None:
        assert CARD.price(Work("a100", 2, "high"), 0, HOUR_MS) == 180
        assert CARD.price(Work("a100", 2, "low"), 0, HOUR_MS) == 60

    def test_it_is_rounded_up_and_only_in_the_end(self) -> None:
        assert CARD.price(A100, 0, 1) == 1
        assert CARD.price(A100, 0, 60_000) == 1
        assert CARD.price(A100, 0, 60_001) == 2
        third = RateCard([Rates(0, {"t": Fraction(1, 3)}), Rates(HOUR_MS, {"t": Fraction(2, 3)})])
        assert third.price(Work("t", 1), 0, 2 * HOUR_MS) == 1
        assert third.price(Work("t", 3), 0, 2 * HOUR_MS) == 3

    def test_no_time_costs_nothing(self) -> None:
        assert CARD.price(A100, 5, 5) == 0

    def test_what_costs_nothing_an_hour_costs_nothing(self) -> None:
        assert RateCard([Rates(0, {"spare": Fraction(0)})]).price(Work("spare", 8), 0, HOUR_MS) == 0

    @given(st.integers(1, 64), st.integers(0, 20 * HOUR_MS), st.integers(0, 20 * HOUR_MS))
    def test_it_is_what_every_millisecond_costs_together(self, gpus: int, start: int, lasts: int) -> None:
        end = start + lasts
        change = 10 * HOUR_MS
        before, after = max(0, min(end, change) - start), max(0, end - max(start, change))
        exact = Fraction(gpus) * (60 * before + 90 * after) / HOUR_MS
        assert CARD.price(Work("a100", gpus), start, end) == ceil(exact)


class TestAChangeOfRates:
    def test_each_part_of_the_time_is_paid_at_its_own_rate(self) -> None:
        assert CARD.price(A100, 9 * HOUR_MS, 11 * HOUR_MS) == 60 + 90
        assert CARD.price(Work("a100", 1, "high"), 9 * HOUR_MS, 11 * HOUR_MS) == 90 + 180

    def test_the_new_rate_holds_from_its_first_millisecond_on(self) -> None:
        assert CARD.price(Work("a100", HOUR_MS), 10 * HOUR_MS - 1, 10 * HOUR_MS) == 60
        assert CARD.price(Work("a100", HOUR_MS), 10 * HOUR_MS, 10 * HOUR_MS + 1) == 90
        assert CARD.price(Work("a100", HOUR_MS), 10 * HOUR_MS - 1, 10 * HOUR_MS + 1) == 150

    def test_any_number_of_changes_may_lie_in_between(self) -> None:
        card = RateCard(Rates(hour * HOUR_MS, {"t": Fraction(10**hour)}) for hour in range(5))
        assert card.price(Work("t", 1), 0, 5 * HOUR_MS) == 11_111

    def test_a_type_must_have_a_price_all_the_time(self) -> None:
        assert CARD.price(Work("h100", 1), 10 * HOUR_MS, 11 * HOUR_MS) == 200
        assert refused(Work("h100", 1), 9 * HOUR_MS, 11 * HOUR_MS)[0] == "gpu_type"

    def test_so_must_a_class_of_work(self) -> None:
        assert CARD.price(Work("a100", 1, "low"), 9 * HOUR_MS, 10 * HOUR_MS) == 30
        assert refused(Work("a100", 1, "low"), 9 * HOUR_MS, 10 * HOUR_MS + 1)[0] == "priority"


class TestWhatHasNoPrice:
    def test_an_unknown_type_is_told_which_there_are(self) -> None:
        assert refused(Work("abacus", 1), 10 * HOUR_MS, 11 * HOUR_MS) == (
            "gpu_type", "must be one that has a price: a100, h100",
        )  # fmt: skip

    def test_an_unknown_class_is_told_which_there_are(self) -> None:
        assert refused(Work("a100", 1, "urgent")) == ("priority", "must be one that has a multiplier: high, low")

    def test_or_that_there_are_none(self) -> None:
        card = RateCard([Rates(0, {"t": Fraction(1)})])
        assert refused(Work("t", 1, "high"), card=card) == (
            "priority", "must be one that has a multiplier: there are none",
        )  # fmt: skip

    def test_without_rates_nothing_has_a_price(self) -> None:
        field, rule = refused(A100, card=RateCard())
        assert field == "gpu_type"
        assert rule.startswith("has no price: cluster.toml has no rates")

    def test_nor_has_what_begins_before_the_first_rates(self) -> None:
        card = RateCard([Rates(HOUR_MS, {"a100": Fraction(60)})])
        assert refused(A100, HOUR_MS - 1, 2 * HOUR_MS, card) == ("gpu_type", f"has no price before {HOUR_MS}")
        assert card.price(A100, HOUR_MS, 2 * HOUR_MS) == 60

    @pytest.mark.parametrize(("over", "fits"), [(0, True), (1, False)])
    def test_more_than_the_largest_amount_is_refused(self, over: int, fits: bool) -> None:
        card = RateCard([Rates(0, {"t": Fraction(1)})])
        work = Work("t", MAX_AMOUNT + over)
        if fits:
            assert card.price(work, 0, HOUR_MS) == MAX_AMOUNT
        else:
            assert refused(work, card=card) == ("gpus", f"times the time costs {2**53}, more than {MAX_AMOUNT}")
