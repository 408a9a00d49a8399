"""A store gives what a peer lacks in the order in which it came."""

from replication.entry import hash_of
from replication.log import MemoryLog
from tests.unit.replication.sites import make_log

EU, US = make_log("eu/b1", 3), make_log("us/b1", 3)


def filled() -> MemoryLog:
    """eu 1, us 1, us 2, eu 2, eu 3, us 3: as they came."""
    log = MemoryLog()
    for replica, seq in [("eu/b1", 1), ("us/b1", 1), ("us/b1", 2), ("eu/b1", 2), ("eu/b1", 3), ("us/b1", 3)]:
        log.add(replica, seq, (EU if replica == "eu/b1" else US)[seq - 1])
    return log


def dots(page: list[tuple[str, int, bytes]]) -> list[tuple[str, int]]:
    return [(replica, seq) for replica, seq, _ in page]


def test_a_page_holds_what_is_lacking_in_order_of_application() -> None:
    page = filled().page({"eu/b1": 3, "us/b1": 2}, {"eu/b1": 1}, 10, 10**6)
    assert dots(page) == [("us/b1", 1), ("us/b1", 2), ("eu/b1", 2), ("eu/b1", 3)]
    assert page[2][2] == EU[1]


def test_a_page_ends_at_either_limit_but_is_never_empty_while_something_is_lacking() -> None:
    held = {"eu/b1": 3, "us/b1": 3}
    assert len(filled().page(held, {}, 2, 10**6)) == 2
    assert len(filled().page(held, {}, 10, len(EU[0]) + len(US[0]))) == 2
    assert len(filled().page(held, {}, 10, 1)) == 1
    assert filled().page(held, held, 10, 10**6) == []


def test_an_entry_is_found_by_its_dot() -> None:
    log = filled()
    assert log.sealed("eu/b1", 2) == EU[1]
    assert log.hash("eu/b1", 2) == hash_of(EU[1])
    assert log.sealed("eu/b1", 4) is None
    assert log.sealed("eu/b1", 0) is None
    assert log.hash("ap/b1", 1) is None
    assert len(log) == 6
