"""Forecasts against a count, millisecond by millisecond."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from ledger.forecast import Burn, runs_out_at
from ledger.lot import Lot, spending_place
from tests.unit.ledger.test_forecast import NOW, lot

lots = st.builds(
    lot,
    st.uuids().map(str),
    st.integers(0, 12),
    starts=st.integers(NOW - 5, NOW + 40),
    until=st.integers(NOW - 5, NOW + 60),
    priority=st.integers(0, 1),
)


def counted_out(lots: list[Lot], debt: int, burn: Burn) -> int:
    """The same millisecond by millisecond, in fractions."""
    left = {each.id: Fraction(each.remaining) for each in lots}

    def live(at: int) -> list[Lot]:
        found = [each for each in lots if each.starts_at <= at < each.expires_at and left[each.id]]
        return sorted(found, key=spending_place)

    def spend(amount: Fraction, at: int) -> bool:
        """Whether there was more than enough, or just enough."""
        for each in live(at):
            part = min(amount, left[each.id])
            left[each.id] -= part
            amount -= part
        return not amount

    if not spend(Fraction(debt), NOW):
        return NOW
    for at in range(NOW, NOW + 100):
        if not live(at):
            return at
        if not spend(Fraction(burn.used, burn.window_ms), at):
            return at + 1
    raise AssertionError


@given(st.lists(lots, max_size=6), st.integers(0, 15), st.integers(0, 40), st.sampled_from([1, 3, 10, 60]))
def test_it_is_what_one_finds_who_counts_it_out(lots: list[Lot], debt: int, used: int, window_ms: int) -> None:
    burn = Burn(used, window_ms)
    assert runs_out_at(lots, debt, NOW, burn) == counted_out(lots, debt, burn)
