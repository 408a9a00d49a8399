"""Funding, split and merged; and what a claim says of itself."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.claim import Claim, ClaimState, ClaimView, Funding, merge, split, sum_of
from ledger.ids import ClaimId, JobId, LotId
from tests.unit.ledger.story import place


def funding(*parts: tuple[str, int]) -> Funding:
    return tuple((LotId(lot), amount) for lot, amount in parts)


fundings = st.lists(
    st.tuples(st.sampled_from("ABCDE"), st.integers(1, 20)), max_size=5, unique_by=lambda part: part[0]
).map(lambda parts: funding(*parts))


def claim(
    held: Funding = (), held_debt: int = 0, used: Funding = (), used_debt: int = 0, state: ClaimState = ClaimState.OPEN
) -> Claim:
    owes_since = place(10) if held_debt or used_debt else None
    return Claim(ClaimId("c"), state, 100, place(9), 500, held, held_debt, used, used_debt, owes_since, JobId("job"))


def test_a_part_is_taken_from_the_front() -> None:
    taken, left, missing = split(funding(("A", 30), ("B", 30)), 40)
    assert (taken, left, missing) == ((("A", 30), ("B", 10)), (("B", 20),), 0)


def test_a_lot_that_is_used_up_exactly_is_not_left_behind() -> None:
    assert split(funding(("A", 30), ("B", 30)), 30) == ((("A", 30),), (("B", 30),), 0)


def test_what_is_not_there_is_missing() -> None:
    assert split(funding(("A", 30)), 50) == ((("A", 30),), (), 20)
    assert split((), 50) == ((), (), 50)


def test_taking_nothing_leaves_everything() -> None:
    assert split(funding(("A", 30)), 0) == ((), (("A", 30),), 0)


def test_a_lot_stands_where_it_was_first_taken() -> None:
    assert merge(funding(("A", 1), ("B", 2)), funding(("C", 3), ("A", 4))) == (("A", 5), ("B", 2), ("C", 3))
    assert merge((), funding(("A", 1))) == (("A", 1),)
    assert merge(funding(("A", 1)), ()) == (("A", 1),)


@given(fundings, st.integers(0, 120))
def test_a_split_loses_nothing_and_merges_back(whole: Funding, amount: int) -> None:
    taken, left, missing = split(whole, amount)
    assert sum_of(taken) == amount - missing
    assert missing == max(0, amount - sum_of(whole))
    assert merge(taken, left) == whole
    assert all(part > 0 for _, part in taken + left)


@given(fundings, fundings)
def test_a_merge_keeps_every_unit(first: Funding, then: Funding) -> None:
    merged = merge(first, then)
    assert sum_of(merged) == sum_of(first) + sum_of(then)
    assert [lot for lot, _ in merged] == list(dict.fromkeys(lot for lot, _ in first + then))


def test_the_totals_of_a_claim_count_its_debt() -> None:
    known = claim(funding(("A", 30), ("B", 5)), 10, funding(("A", 20)), 7)
    assert (known.held_total, known.used_total, known.debt) == (45, 27, 17)


def test_a_claim_has_ended_when_it_neither_holds_nor_owes() -> None:
    assert not claim(funding(("A", 30))).is_ended
    assert not claim(used_debt=1, state=ClaimState.CLOSED).is_ended
    assert claim(used=funding(("A", 30)), state=ClaimState.CLOSED).is_ended
    assert claim(used=funding(("A", 30)), state=ClaimState.LAPSED).is_ended
    assert claim(state=ClaimState.REVOKED).is_ended
    assert claim(used=funding(("A", 30)), state=ClaimState.TRANSFERRED).is_ended
    assert not claim(used_debt=1, state=ClaimState.TRANSFERRED).is_ended


def test_a_view_shows_both_sides_as_one_funding() -> None:
    known = claim(funding(("B", 10), ("C", 5)), 3, funding(("A", 20), ("B", 10)), 4)
    assert known.view() == ClaimView(
        state=ClaimState.OPEN,
        amount=100,
        held=18,
        captured=34,
        lease_until=500,
        funding=funding(("B", 20), ("C", 5), ("A", 20)),
        debt=7,
    )


def test_a_view_of_one_side_shows_that_side() -> None:
    assert claim(held=funding(("A", 3))).view().funding == (("A", 3),)
    assert claim(used=funding(("B", 4))).view().funding == (("B", 4),)
    assert claim().view().funding == ()


def test_a_claim_without_a_lease_is_no_reservation() -> None:
    assert claim().is_reservation
    assert not Claim(ClaimId("d"), ClaimState.CLOSED, 5, place(1), 0, (), 0, (), 5, place(1), None).is_reservation
