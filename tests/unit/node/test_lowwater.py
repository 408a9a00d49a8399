"""The low-water commit goes as far as everything is checkpointed, in whatever order that happens."""

from node.lowwater import LowWater
from node.store.rows import decode_low
from replication.entry import LogHead


def head(seq: int) -> LogHead:
    return LogHead("eu/b1", seq, bytes([seq]) * 32, 100 + seq, {"us/b1": seq})


def three_commits() -> LowWater:
    """Commits 1 to 3 with two entries, one, and none that is not checkpointed; one more in the open commit."""
    low = LowWater(0, ())
    for commit, entries in ((1, 2), (2, 1), (3, 0)):
        for _ in range(entries):
            low.joined()
        low.closed(commit, {"eu/b1": head(commit)})
    low.joined()
    return low


def test_it_waits_for_the_first_commit_that_is_not_finished() -> None:
    low = three_commits()
    low.checkpointed(2)
    low.checkpointed(1)
    low.advance()
    assert (low.commit, low.waiting, low.left(1), low.row()) == (0, 2, 1, None)
    low.checkpointed(1)
    low.advance()
    assert (low.commit, low.waiting, low.left(1)) == (3, 1, 0)


def test_its_row_says_where_the_logs_were_and_is_written_once() -> None:
    low = three_commits()
    for commit in (1, 1, 2):
        low.checkpointed(commit)
    low.advance()
    row = low.row()
    assert row is not None
    commit, heads = decode_low(row)
    assert (commit, heads) == (3, [("eu/b1", 3, bytes([3]) * 32, 103, {"us/b1": 3})])
    assert low.row() is None
    again = LowWater(commit, heads)
    assert (again.commit, again.heads()["eu/b1"].seq, again.row()) == (3, 3, None)


def test_an_entry_may_be_checkpointed_while_its_commit_is_open() -> None:
    low = LowWater(0, ())
    low.joined()
    low.checkpointed(1)
    low.closed(1, {"eu/b1": head(1)})
    low.advance()
    assert (low.commit, low.waiting) == (1, 0)


def test_heads_that_are_followed_do_not_move_those_at_the_low_water_commit() -> None:
    low = LowWater(*decode_low(three_finished()))
    low.heads()["eu/b1"].seq = 9
    assert low.heads()["eu/b1"].seq == 3


def three_finished() -> bytes:
    low = three_commits()
    for commit in (1, 1, 2):
        low.checkpointed(commit)
    low.advance()
    row = low.row()
    assert row is not None
    return row
