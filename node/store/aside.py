"""What a salvage has put aside: whole entries behind a gap, which wait on disk until the gap is filled.

The gap is filled by peers, like anything else that a node lacks. Then what waits is taken back in pages, as if a peer
had sent it. Beside the entries stands how far each log went, as far as that is known: a log whose end was lost shows no
gap, and yet others may hold what is missing.

While an own log of an earlier boot lacks something that a peer may hold, this region cannot say that it has given out
everything it ever accepted: see `holds_back`.
"""

from collections.abc import Mapping
from typing import Final

from node.store.kv import Overlay, Table
from node.store.rows import LOST, after_prefix, decode_counts, dot_key, pack, read, replica_of, seq_of
from replication.clock import VectorClock, region_of

_DELETED_AT_ONCE: Final = 1_000


class Aside:
    """The entries aside in one store. Truthy while anything waits or is known to be missing.

    Relations kept: ``_first`` has the first number that waits of each log; ``_ends`` the number of the last entry that
    a log is known to have had, where it has not come back; ``_tried`` how far a log was, and when (ms), when its
    entries were last taken; ``_elsewhere`` what each peer has of these logs by what it said last.
    """

    def __init__(self, overlay: Overlay, region: str, peers: tuple[str, ...]) -> None:
        self._overlay = overlay
        self._region = region
        self._peers = frozenset(peers)
        self._unheard = set(peers)
        self._elsewhere: dict[str, VectorClock] = {}
        self._tried: dict[str, tuple[int, int]] = {}
        ends = overlay.get(Table.META, LOST)
        self._ends = {} if ends is None else read(decode_counts, Table.META, LOST, ends)
        self._first: dict[str, int] = {}
        start = b""
        while rows := overlay.scan(Table.ASIDE, start, None, 1):
            key = rows[0][0]
            self._first[replica_of(key)] = seq_of(key)
            start = after_prefix(key[: len(replica_of(key).encode()) + 1])

    def __bool__(self) -> bool:
        return bool(self._first or self._ends)

    def logs(self) -> dict[str, int]:
        """The logs that lack something, each with the first number that waits, 0 if none does."""
        return {replica: self._first.get(replica, 0) for replica in self._first | self._ends}

    def heard(self, peer: str, clock: Mapping[str, int]) -> None:
        """A peer has said what it holds: what it lost since it said so before, it may have passed on."""
        before = self._elsewhere.get(peer, {})
        lacking = {replica: clock.get(replica, 0) for replica in self._first | self._ends}
        if any(count < before.get(replica, 0) for replica, count in lacking.items()):
            self._unheard = set(self._peers)
        self._unheard.discard(peer)
        self._elsewhere[peer] = lacking

    def holds_back(self, durable: Mapping[str, int], applied: Mapping[str, int]) -> bool:
        """Whether something of an own log may still come that is not durable.

        That is so until all peers have been heard; while one has what any log here lacks, for an own entry may wait for
        that; while what came back is not durable; and while what follows in a log has not been taken back yet. Once
        taken it waits with all else that waits for its causes, and is applied with the last of them.
        """
        lacking = self._first | self._ends
        if not any(region_of(replica) == self._region for replica in lacking):
            return False
        had = [applied, *self._elsewhere.values()]
        return bool(self._unheard) or any(
            max(clock.get(replica, 0) for clock in had) > durable.get(replica, 0) or self._is_next(replica, applied)
            for replica in lacking
        )

    def _is_next(self, replica: str, applied: Mapping[str, int]) -> bool:
        """Whether what waits of a log follows what has been applied of it, and has not been taken at that point."""
        count = applied.get(replica, 0)
        return 0 < self._first.get(replica, 0) <= count + 1 and self._tried.get(replica, (-1, 0))[0] != count

    def settle(self, clock: Mapping[str, int]) -> list[str]:
        """Forget what is durable again; returns the logs that lack nothing any more."""
        before = self.logs()
        for replica in list(self._first):
            self._forget(replica, clock.get(replica, 0))
        met = [replica for replica, end in self._ends.items() if clock.get(replica, 0) >= end]
        for replica in met:
            del self._ends[replica]
        if met and self._ends:
            self._overlay.put(Table.META, LOST, pack(self._ends))
        elif met:
            self._overlay.delete(Table.META, LOST)
        return [replica for replica in before if replica not in self._first and replica not in self._ends]

    def _forget(self, replica: str, applied: int) -> None:
        if applied < self._first[replica]:
            return
        behind = dot_key(replica, applied + 1)
        for key, _ in self._overlay.scan(Table.ASIDE, dot_key(replica, 0), behind, _DELETED_AT_ONCE):
            self._overlay.delete(Table.ASIDE, key)
        rest = self._overlay.scan(Table.ASIDE, dot_key(replica, 0), after_prefix(dot_key(replica, 0)[:-8]), 1)
        if rest:
            self._first[replica] = seq_of(rest[0][0])
        else:
            del self._first[replica]

    def next(self, clock: Mapping[str, int], limit: int, now: int, patience_ms: int) -> list[bytes]:
        """Up to `limit` entries of each log that follow what has been applied of it.

        A log that has not moved since its entries were last taken waits for something else: it is left alone for
        `patience_ms`.
        """
        page: list[bytes] = []
        for replica, first in self._first.items():
            applied = clock.get(replica, 0)
            tried_at, when = self._tried.get(replica, (-1, 0))
            if first > applied + 1 or (tried_at == applied and 0 <= now - when < patience_ms):
                continue
            self._tried[replica] = applied, now
            stop = dot_key(replica, applied + limit + 1)
            rows = self._overlay.scan(Table.ASIDE, dot_key(replica, applied + 1), stop, limit)
            page += [sealed for key, sealed in rows]
        return page
