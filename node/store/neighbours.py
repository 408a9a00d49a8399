"""Is what is not there really not there, and does a range hold all that belongs in it?

A row's checksum vouches for what it says, not for rows that nobody finds. LMDB finds a key among its neighbours. If a
bit of a key has flipped, its row stands where it stood, as another key, beside the place where it is looked for; and if
a bit has flipped on the way there, the place that is found lies between keys that it does not belong between. So
whoever says that there is nothing looks at what is on both sides of it.

Cursors are of one read transaction, and are moved.
"""

from itertools import pairwise

import lmdb

from node.store.kv import Row, Table, verified


def vouch_for_gap(
    table: Table, cursor: "lmdb.Cursor[bytes]", edge: bytes, *, is_absent: bool = False, is_checked: bool = True
) -> bool:
    """Whether `edge` lies between the rows on both sides of it; it may be the second one's key unless it `is_absent`.

    Raises DamagedRow if one of them is not what was written, when that `is_checked`.
    """
    is_at_next = cursor.set_range(edge)
    following = cursor.item() if is_at_next else None
    before = cursor.item() if (cursor.prev() if is_at_next else cursor.last()) else None
    if is_checked:
        for row in (before, following):
            if row is not None:
                verified(table, *row)
    if before is not None and before[0] >= edge:
        return False
    return following is None or following[0] > edge or (following[0] == edge and not is_absent)


def is_last_in_place(
    cursor: "lmdb.Cursor[bytes]", rows: list[Row], start: bytes, stop: bytes | None, reverse: bool
) -> bool:
    """Whether the last of the rows that were read, where the cursor stands, is where it belongs.

    Whoever goes on reading behind a row that is not would leave others out, or read for ever.
    """
    last = rows[-1][0]
    there = cursor.prev() if reverse else cursor.next()
    around = [key for key, _ in rows[-2:]] + ([cursor.key()] if there else [])
    if reverse:
        around.reverse()
    is_within = start <= last and (stop is None or last < stop)
    return is_within and all(earlier < later for earlier, later in pairwise(around))
