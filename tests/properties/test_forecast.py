"""Forecasts against a count, millisecond by millisecond."""

from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from ledger.event_time import EventFold
from ledger.forecast import Burn, runs_out_at, used_in
from ledger.lot import Lot, spending_place
from ledger.operation import Usage
from ledger.posting import USED
from tests.properties.histories import RULES, START_MS, Written, histories
from tests.properties.test_event_order import in_event_order
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


def used_in_each_millisecond(history: list[Written]) -> tuple[Counter[int], int]:
    """What was used in each, in fractions; and how many reports were shared out."""
    fold = EventFold(in_event_order(history), RULES)
    used: Counter[int] = Counter()
    charged: set[tuple[str, int]] = set()
    shared = 0
    while fold.next_at is not None:
        dated, effect = fold.step()
        usage, amount = dated.operations[0], effect.postings.get(USED, 0)
        if not isinstance(usage, Usage):
            used[dated.at] += amount
            continue
        fresh = {(usage.job, at) for at in range(usage.start, usage.end)} - charged
        charged |= fresh
        shared += bool(amount)
        for _, at in fresh:
            used[at] += Fraction(amount, len(fresh))  # type: ignore[assignment]
    return used, shared


@given(histories(), st.lists(st.integers(START_MS - 110, START_MS + 500), min_size=3, max_size=3, unique=True))
def test_usage_counts_where_it_happened_and_no_part_of_it_twice(history: list[Written], bounds: list[int]) -> None:
    def used(since: int, to: int) -> int:
        return sum(used_in(EventFold(in_event_order(history), RULES), since, to))

    since, between, to = sorted(bounds)
    each, shared = used_in_each_millisecond(history)
    exactly = sum(amount for at, amount in each.items() if since <= at < to)
    assert abs(used(since, to) - exactly) < 1 + shared
    assert used(since, between) + used(between, to) == used(since, to)
    assert used(0, START_MS + 5_000) == sum(each.values())
