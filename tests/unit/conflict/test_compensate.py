"""What a region posts to put its books right: its own losers only, some in each entry, the sum of them as postings."""

from conflict.compensate import compensations
from conflict.contest import Amends
from conflict.detect import Canonical
from ledger.operation import Compensation, Difference
from ledger.posting import Outcome, Postings
from ledger.timeline import BEGINNING
from tests.regions import Regions, clash, grant, reserve


def three_losers() -> Regions:
    """eu took all the credit; each of three reservations of us is short of what it reserved."""
    return clash([grant("L", 100)], [reserve("a", 100)], [reserve("b", 10), reserve("c", 20), reserve("d", 30)])


def canonical(postings: Postings) -> Canonical:
    """What canonical order makes of one of them."""
    return Canonical(postings, Outcome.APPLIED, None, 0)


def test_one_entry_puts_many_operations_right_and_its_postings_are_their_sum() -> None:
    book = three_losers().book("us")
    assert list(compensations(book.contests.values(), "us", 100, 1_000)) == [
        (
            Compensation(
                (
                    Difference("us/b2", 1, {"lot/L": 10, "debt": -10}),
                    Difference("us/b2", 2, {"lot/L": 20, "debt": -20}),
                    Difference("us/b2", 3, {"lot/L": 30, "debt": -30}),
                )
            ),
            {"lot/L": 60, "debt": -60},
        )
    ]


def test_more_than_fit_one_entry_take_the_next() -> None:
    book = three_losers().book("us")
    first, second = compensations(book.contests.values(), "us", 2, 1_000)
    assert [difference.seq for difference in first[0].of] == [1, 2]
    assert first[1] == {"lot/L": 30, "debt": -30}
    assert [difference.seq for difference in second[0].of] == [3]
    assert second[1] == {"lot/L": 30, "debt": -30}


def test_an_entry_has_a_bounded_number_of_postings_but_always_one_operation() -> None:
    contests = three_losers().book("us").contests.values()
    for at_most, parts in ((1, [1, 1, 1]), (3, [1, 1, 1]), (4, [2, 1]), (5, [2, 1]), (6, [3])):
        assert [len(entry.of) for entry, _ in compensations(contests, "us", 100, at_most)] == parts


def test_nobody_puts_right_what_another_region_accepted() -> None:
    world = three_losers()
    assert len(world.book("eu").contests) == 3
    assert list(compensations(world.book("eu").contests.values(), "eu", 100, 1_000)) == []


def test_what_is_settled_is_left_alone_and_what_is_not_quite_gets_the_rest() -> None:
    contests = list(three_losers().book("us").contests.values())
    place = contests[0].loser.position
    contests[0].add(Amends(place, {"lot/L": 10, "debt": -10}))
    contests[1].add(Amends(place, {"lot/L": 5, "debt": -5}))
    ((compensation, postings),) = compensations(contests[:2], "us", 100, 1_000)
    assert compensation.of == (Difference("us/b2", 2, {"lot/L": 15, "debt": -15}),)
    assert postings == {"lot/L": 15, "debt": -15}


def test_differences_that_cancel_are_still_told_one_by_one() -> None:
    contests = list(three_losers().book("us").contests.values())
    contests[0].canonical = canonical({"lot/L": -11, "held/b": 10, "held/x": 1})
    contests[1].canonical = canonical({"lot/L": -19, "held/c": 20, "held/x": -1})
    ((compensation, postings),) = compensations(contests[:2], "us", 100, 1_000)
    assert [difference.postings for difference in compensation.of] == [
        {"lot/L": -1, "held/x": 1},
        {"lot/L": 1, "held/x": -1},
    ]
    assert postings == {}


def test_a_later_boot_puts_right_what_an_earlier_one_accepted() -> None:
    world = three_losers()
    world.crash("us")
    world.put_right()
    last = world.book("us").entries(BEGINNING, 100)[-1]
    assert last.entry.replica == world.region("us").replica == "us/b3"
    assert isinstance(last.entry.content, Compensation)
    assert {(part.replica, part.seq) for part in last.entry.content.of} == {("us/b2", 1), ("us/b2", 2), ("us/b2", 3)}
    assert last.entry.outcome == "posted"
    assert (last.entry.key, last.entry.request, last.entry.result) == (None, None, None)


def test_one_round_is_enough_whatever_the_regions_did_apart() -> None:
    world = Regions("ap", "eu", "us")
    world.do("eu", grant("L", 100))
    world.meet()
    world.part()
    for name in world.names:
        world.do(name, reserve(f"{name}-1", 40))
        world.do(name, reserve(f"{name}-2", 30))
    world.put_right()
    entries = world.book("ap").entries(BEGINNING, 100)
    posted = [filed for filed in entries if isinstance(filed.entry.content, Compensation)]
    assert sorted(filed.entry.region for filed in posted) == ["eu", "us"], "ap was first"
    held = {f"held/{name}-{n}": amount for name in world.names for n, amount in ((1, 40), (2, 30))}
    assert world.posted("us") == {"issued": -100, **held, "debt": -110}
    world.exchange(3_000)
    assert len(world.book("ap").entries(BEGINNING, 100)) == len(entries)


def test_a_forged_sum_too_large_to_post_does_not_keep_back_what_else_is_owed() -> None:
    contests = list(three_losers().book("us").contests.values())
    contests[1].canonical = canonical({"lot/L": -(2**60) - 1, "held/c": 2**60 + 1})
    parts = [[part.seq for part in entry.of] for entry, _ in compensations(contests, "us", 100, 1_000)]
    assert parts == [[1], [2], [3]]
