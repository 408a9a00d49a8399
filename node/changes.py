"""Which conflicts somebody who follows them has to look at again: the last so many that changed, in the order of it.

Whatever may change a report touches its place here, whether or not the report then says something else; who tells
people of it compares. A conflict stands here once, under the number of its last touch, so that who comes back after
any number of them is told the newest, and memory is bounded however much changes. What has left at the front is lost
for those who have not been told yet, and they are to be told that (`Changes.lost`).

What is touched directly is what an entry is about: its own contest, and that for which it makes amends or which it
acknowledges. But any operation can repay a debt, so a change of who owes is looked for book by book
(`node.book.LedgerBook.look_who_owes`).
"""

from collections import OrderedDict
from typing import Final

from ledger.ids import Position, TenantId

MAX_CHANGES: Final = 2_000

Contested = tuple[TenantId, Position]
"""A conflict by the account in which an operation lost, and the operation's place."""


class Changes:
    """The conflicts touched last.

    Relations kept: ``_touched`` has the number of each conflict's last touch, smallest first; no number above ``lost``
    is missing that is the last touch of its conflict.
    """

    def __init__(self, most: int = MAX_CHANGES) -> None:
        self._most = most
        self._touched: OrderedDict[Contested, int] = OrderedDict()
        self.last = 0
        self.lost = 0
        """Up to here what was touched may be forgotten."""

    def touch(self, tenant: TenantId, loser: Position) -> None:
        """The report of a conflict may have changed, or begun, or come to nothing."""
        self.last += 1
        self._touched[tenant, loser] = self.last
        self._touched.move_to_end((tenant, loser))
        if len(self._touched) > self._most:
            _, self.lost = self._touched.popitem(last=False)

    def after(self, number: int, limit: int) -> list[tuple[int, Contested]]:
        """The first `limit` of the conflicts that were touched after `number`, each with the number of its last."""
        found: list[tuple[int, Contested]] = []
        for contested, touched in reversed(self._touched.items()):
            if touched <= number:
                break
            found.append((touched, contested))
        return found[: -limit - 1 : -1]
