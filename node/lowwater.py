"""How far the rows go: the commit up to which every entry is checkpointed, so that a start may begin behind it.

Entries are checkpointed tenant by tenant, so commits are finished out of order; what counts is the first that is not.
Beside its number stand the heads that the logs had there: from them a start follows the chains.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from node.store.rows import StoredHead, pack
from replication.entry import LogHead

_COMMITS_AT_ONCE: Final = 2_000


class LowWater:
    """The low-water commit.

    Relations kept: all entries in commits up to ``commit`` are checkpointed; ``_left`` counts the others by commit,
    ``_open`` those of the commit that is still open, ``waiting`` all of them; ``_advanced`` has the heads of the logs
    that moved in each of ``_commits``, which are those behind ``commit``, in order.
    """

    def __init__(self, commit: int, heads: Iterable[StoredHead]) -> None:
        self.commit = commit
        self.waiting = 0
        """How many entries are not checkpointed."""
        self._heads = {head.replica: LogHead(*head) for head in heads}
        self._left: dict[int, int] = {}
        self._open = 0
        self._commits: deque[int] = deque()
        self._advanced: dict[int, dict[str, LogHead]] = {}
        self._written = commit

    def heads(self) -> dict[str, LogHead]:
        """The heads of the logs at the low-water commit: yours to follow them."""
        return {replica: copy_of(head) for replica, head in self._heads.items()}

    def joined(self) -> None:
        """An entry that is not checkpointed is in the open commit."""
        self.waiting += 1
        self._open += 1

    def closed(self, commit: int, advanced: dict[str, LogHead]) -> None:
        """The open commit has its number, and the logs that moved in it these heads."""
        self._left[commit] = self._open
        self._commits.append(commit)
        self._open = 0
        self._advanced[commit] = advanced

    def checkpointed(self, commit: int) -> None:
        """An entry of a commit, closed or open, is in the rows."""
        self.waiting -= 1
        if commit in self._left:
            self._left[commit] -= 1
        else:
            self._open -= 1

    def left(self, commit: int) -> int:
        """How many entries of a closed commit are not checkpointed."""
        return self._left.get(commit, 0)

    def advance(self) -> None:
        """Go on to the first commit that is not finished."""
        for _ in range(_COMMITS_AT_ONCE):
            if not self._commits or self.left(self._commits[0]):
                return
            self.commit = self._commits.popleft()
            del self._left[self.commit]
            self._heads.update(self._advanced.pop(self.commit))

    def row(self) -> bytes | None:
        """What is to be written, if it is not what was written last."""
        if self.commit == self._written:
            return None
        self._written = self.commit
        return low_row(self.commit, self._heads)


def low_row(commit: int, heads: dict[str, LogHead]) -> bytes:
    """The low-water commit, and the heads of the logs there, as a row."""
    return pack([commit, [(head.replica, head.seq, head.hash, head.hlc, head.others) for head in heads.values()]])


def copy_of(head: LogHead) -> LogHead:
    """A head that stays where it is when the log moves on."""
    return LogHead(head.replica, head.seq, head.hash, head.hlc, head.others)
