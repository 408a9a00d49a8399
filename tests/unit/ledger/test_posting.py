"""Postings: their sums and differences, and which accounts there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.posting import TOTALS, Postings, add_into, balanced, is_account, subtract, total

accounts = st.sampled_from([*TOTALS, "lot/L", "held/c"])
postings = st.dictionaries(accounts, st.integers(-9, 9).filter(bool))


@pytest.mark.parametrize("name", [*TOTALS, "lot/L", "held/c"])
def test_totals_lots_and_holds_are_accounts(name: str) -> None:
    assert is_account(name)


@pytest.mark.parametrize("name", ["", "lots/L", "hold/c", "Debt", "lot", "held", "transfer"])
def test_nothing_else_is_an_account(name: str) -> None:
    assert not is_account(name)


def test_a_difference_is_what_must_be_posted_on_top() -> None:
    recorded = {"lot/L": -60, "held/c": 60}
    canonical = {"lot/L": -40, "debt": -20, "held/c": 60}
    assert subtract(canonical, recorded) == {"lot/L": 20, "debt": -20}


def test_the_difference_from_itself_is_nothing() -> None:
    assert subtract({"lot/L": -60, "held/c": 60}, {"lot/L": -60, "held/c": 60}) == {}


def test_a_duplicate_owes_all_that_it_posted() -> None:
    assert subtract({}, {"lot/L": -60, "held/c": 60}) == {"lot/L": 60, "held/c": -60}


def test_accounts_that_come_to_zero_leave_the_books() -> None:
    books = {"lot/L": 100, "issued": -100}
    add_into(books, {"lot/L": -100, "held/c": 100})
    assert books == {"issued": -100, "held/c": 100}


def test_only_postings_without_zeros_that_sum_to_zero_are_balanced() -> None:
    assert balanced({})
    assert balanced({"lot/L": -60, "held/c": 60})
    assert not balanced({"lot/L": -60, "held/c": 61})
    assert not balanced({"lot/L": -60, "held/c": 60, "debt": 0})


@given(postings, postings)
def test_a_difference_added_on_top_gives_the_whole(left: Postings, right: Postings) -> None:
    kept = dict(left), dict(right)
    books = dict(right)
    add_into(books, subtract(left, right))
    assert books == left
    assert (left, right) == kept


@given(st.lists(postings))
def test_a_total_is_the_sum_account_by_account(parts: list[Postings]) -> None:
    books = total(parts)
    assert 0 not in books.values()
    assert all(books.get(name, 0) == sum(part.get(name, 0) for part in parts) for name in (*TOTALS, "lot/L", "held/c"))
