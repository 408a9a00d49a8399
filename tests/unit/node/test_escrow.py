"""Wishes for credit: what is asked of whom, when, and what a region can give away."""

from collections.abc import Sequence

from ledger.account import Account
from ledger.ids import LotId, TenantId
from ledger.operation import Admission, Grant, Policy
from ledger.rules import Rules
from node.escrow import Wish, Wishes, parts_of, wanted_when_low
from tests.unit.ledger.story import place

ACME = TenantId("acme")


def account(*grants: Sequence[tuple[str, int]]) -> Account:
    """A tenant under escrow with grants in these shares, the later ones expiring later."""
    made = Account(Rules())
    made.apply(Policy(admission=Admission.ESCROW), place(1), None, None)
    for number, shares in enumerate(grants, 1):
        amount = sum(part for _, part in shares)
        grant = Grant(LotId(f"L{number}"), amount, 0, 1000 * number, 0, tuple(shares))
        made.apply(grant, place(1 + number, number), None, None)
    return made


def taken(wishes: Wishes, books: Account, *linked: str, now: int = 100) -> list[Wish]:
    return [wish for tenant in wishes.due(now) for wish in wishes.take(tenant, books, linked, now, now)]


class TestWishes:
    def test_whoever_has_most_is_asked_first_and_no_more_than_is_lacking(self) -> None:
        wishes = Wishes("us", 50)
        wishes.want(ACME, 100)
        books = account([("us", 10), ("eu", 40), ("ap", 70)])
        assert taken(wishes, books, "eu", "ap") == [Wish("ap", ACME, 70), Wish("eu", ACME, 20)]

    def test_who_is_not_linked_is_passed_over(self) -> None:
        wishes = Wishes("us", 50)
        wishes.want(ACME, 100)
        assert taken(wishes, account([("us", 10), ("eu", 40), ("ap", 70)]), "eu") == [Wish("eu", ACME, 40)]

    def test_what_has_come_meanwhile_is_not_asked_for(self) -> None:
        wishes = Wishes("us", 50)
        wishes.want(ACME, 10)
        assert taken(wishes, account([("us", 10), ("eu", 40)]), "eu") == []

    def test_the_larger_of_two_wishes_counts_and_a_wish_is_made_once(self) -> None:
        wishes = Wishes("us", 50)
        wishes.want(ACME, 30)
        wishes.want(ACME, 20)
        books = account([("us", 10), ("eu", 40)])
        assert taken(wishes, books, "eu") == [Wish("eu", ACME, 20)]
        assert not wishes
        assert taken(wishes, books, "eu", now=500) == []

    def test_wishes_go_out_once_in_a_while(self) -> None:
        wishes = Wishes("us", 50)
        books = account([("us", 10), ("eu", 40)])
        for now, expected in ((100, 1), (120, 0), (149, 0), (150, 1)):
            wishes.want(ACME, 30)
            assert len(taken(wishes, books, "eu", now=now)) == expected

    def test_a_clock_that_is_set_back_does_not_silence_wishes(self) -> None:
        wishes = Wishes("us", 50)
        books = account([("us", 10), ("eu", 40)])
        for now in (10**6, 100):
            wishes.want(ACME, 30)
            assert len(taken(wishes, books, "eu", now=now)) == (1 if now < 1000 else 0)

    def test_lots_that_are_not_live_are_nobodys_to_give(self) -> None:
        wishes = Wishes("us", 50)
        wishes.want(ACME, 30)
        assert taken(wishes, account([("us", 10), ("eu", 40)]), "eu", now=5000) == []


def test_a_region_is_low_with_less_than_a_quarter_of_an_even_share() -> None:
    books = account([("us", 9), ("eu", 111)])
    assert wanted_when_low(books, "us", 3, 100) == 20
    assert wanted_when_low(account([("us", 10), ("eu", 110)]), "us", 3, 100) == 0
    assert wanted_when_low(books, "eu", 3, 100) == 0


def test_what_expires_first_is_given_away_first_and_nothing_of_others() -> None:
    books = account([("us", 10), ("eu", 5)], [("us", 20)])
    assert parts_of(books, "us", 25, 100) == [(LotId("L1@us"), 10), (LotId("L2@us"), 15)]
    assert parts_of(books, "us", 500, 100) == [(LotId("L1@us"), 10), (LotId("L2@us"), 20)]
    assert parts_of(books, "us", 500, 1500) == [(LotId("L2@us"), 20)]
    assert parts_of(books, "ap", 5, 100) == []
