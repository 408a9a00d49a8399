"""Causal delivery: which entry may be applied now, which must wait, and which is never taken.

Entries come in any order, any number of times, from any peer. An entry is applied when all that its vector clock covers
has been applied. Of each one that comes in:

    its log is refused                            dropped
    known, with the same hash                     dropped
    known, with another hash                      a fork: the first is kept, the rest of the log refused, alarm
    an earlier entry of its log is missing        waits
    it does not follow the head of its log        a fork, likewise
    its clock is too far ahead of ours            waits until our clock gets there, alarm
    something that it had seen is missing         waits
    otherwise                                     applied, and then whatever waited for it

What waits is bounded, by entries for each log and by bytes over all; beyond that it is dropped, to be asked for again
when the entries before it are there. What an entry had seen of a refused log counts as seen: the others go on.

The next entry of a log needs to be held only against its ``delta``: all else it had seen, the entry before it had seen.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct

from ledger.operation import Compensation
from replication.clock import MAX_REPLICAS, VectorClock, hlc_at, ms_of, region_of
from replication.codec import Ranges
from replication.entry import Entry, Fork, LogHead, Malformed, hash_of, open_sealed
from replication.log import LogStore

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Of memory, as far as `weight_of` can tell."""

_BYTES_AN_ENTRY: Final = 800
_BYTES_A_PAIR: Final = 100
_BYTES_A_PART: Final = 250

# What can be in an entry's way beside a replica; neither is the name of one.
_CLOCK: Final = "clock"
_REFUSED: Final = "refused"


class AlarmKind(StrEnum):
    """What an operator must look at."""

    FORK = "fork"
    MALFORMED = "malformed"
    CLOCK_AHEAD = "clock-ahead"
    RULES_DIFFER = "rules-differ"
    WRONG_CLUSTER = "wrong-cluster"


class Alarm(Struct, frozen=True):
    """Something is wrong with ``subject``, a replica or a region."""

    kind: AlarmKind
    subject: str
    detail: str


Arrival = tuple[Entry, bytes, VectorClock]
"""An entry to be applied now, its sealed form, and what it had seen of other replicas, shared: never change it."""


class Delivered(Struct):
    """What came of a page: entries to apply, in this order; alarms; how many known and how many dropped entries."""

    arrivals: list[Arrival]
    alarms: list[Alarm]
    known_count: int = 0
    dropped_count: int = 0


class Delivery:
    """Everything that a node has applied, and what waits to be.

    Relations kept: ``clock[replica] == heads[replica].seq``; ``news`` holds the counts of the replicas other than
    ``replica`` that moved since its last entry, and so is the delta of its next one; every log whose next entry is in
    ``_waiting`` stands in ``_blocked_by`` under what is in its way, a replica or the clock; nothing in ``_waiting`` is
    at or below its log's head, and nothing in it belongs to a refused log.
    """

    __slots__ = (
        "_blocked_by", "_drift", "_store", "_waiting", "_waiting_bytes", "_window",
        "clock", "heads", "news", "refused", "replica",
    )  # fmt: skip

    def __init__(
        self,
        replica: str,
        heads: Iterable[LogHead],
        store: LogStore,
        *,
        window_entries: int,
        max_clock_drift_ms: int,
    ) -> None:
        self.replica = replica
        self.heads: dict[str, LogHead] = {head.replica: head for head in heads}
        self.clock: VectorClock = {head.replica: head.seq for head in self.heads.values()}
        own = self.heads.get(replica)
        seen = {} if own is None else own.others
        self.news: VectorClock = {
            log: count for log, count in self.clock.items() if log != replica and count > seen.get(log, 0)
        }
        self.refused: dict[str, str] = {}
        """Logs of which nothing more is taken, and why."""
        self._store = store
        self._window = window_entries
        self._drift = hlc_at(max_clock_drift_ms)
        self._waiting: dict[str, dict[int, tuple[Entry, bytes]]] = {}
        self._waiting_bytes = 0
        # Dicts for sets: their order does not depend on the process, so neither does that of the arrivals.
        self._blocked_by: dict[str, dict[str, None]] = {}

    # -- this node's own entries ------------------------------------------------------------------------------------

    @property
    def own_head(self) -> LogHead:
        """The head of this node's own log: its next entry is number ``seq + 1``, behind ``hash``, with `news`."""
        return self.heads.get(self.replica) or LogHead(self.replica)

    def append(self, entry: Entry, digest: bytes) -> VectorClock:
        """An entry that this node has just made and applied; returns what it had seen of the other replicas."""
        assert entry.replica == self.replica, "an entry of another log"
        assert entry.delta == self.news, "an entry of our own that does not say what it has seen"
        head = self.own_head
        others = head.extend(entry, digest)
        self.heads[entry.replica] = head
        self.clock[entry.replica] = entry.seq
        self.news = {}
        return others

    # -- entries from elsewhere -------------------------------------------------------------------------------------

    def receive(self, page: Iterable[bytes], now_ms: int) -> Delivered:
        """Take in sealed entries. All that is in ``arrivals`` counts as applied from here on."""
        delivered = Delivered([], [])
        latest = hlc_at(now_ms) + self._drift
        for sealed in page:
            try:
                entry, digest = open_sealed(sealed)
            except Malformed as error:
                delivered.alarms.append(Alarm(AlarmKind.MALFORMED, "", str(error)))
            else:
                self._take(entry, sealed, digest, latest, delivered)
        return delivered

    def retry(self, now_ms: int) -> Delivered:
        """Apply what waited for our clock to get there."""
        delivered = Delivered([], [])
        self._release(_CLOCK, hlc_at(now_ms) + self._drift, delivered)
        return delivered

    @property
    def waiting_count(self) -> int:
        """How many entries wait."""
        return sum(map(len, self._waiting.values()))

    def _take(self, entry: Entry, sealed: bytes, digest: bytes, latest: int, delivered: Delivered) -> None:
        replica, seq = entry.replica, entry.seq
        if replica in self.refused:
            delivered.dropped_count += 1
            return
        applied = self.clock.get(replica, 0)
        if not applied and replica not in self.clock and self._has_no_room_for(replica):
            detail = f"a cluster has at most {MAX_REPLICAS} logs, and this is one more"
            delivered.alarms.append(Alarm(AlarmKind.MALFORMED, region_of(replica), detail))
            delivered.dropped_count += 1
        elif seq <= applied:
            self._compare(entry, digest, delivered)
            if replica in self.refused:
                self._release(replica, latest, delivered)
        elif replica == self.replica:
            delivered.alarms.append(Alarm(AlarmKind.FORK, replica, f"somebody else made entry {seq} of our own log"))
        elif (held := self._waiting.get(replica, {}).get(seq)) is not None:
            # Of two under one dot the first waits on; the chain will tell whether it was the right one. But who waits
            # for its turn may wait for ever, for a time or an entry that never comes: then the other one's turn is now.
            if seq > applied + 1 or hash_of(held[1]) == digest:
                delivered.known_count += 1
            elif self._apply(entry, sealed, digest, latest, delivered) in (None, _REFUSED):
                self._drop_waiting(replica, seq)
                self._release(replica, latest, delivered)
        elif seq == applied + 1:
            obstacle = self._apply(entry, sealed, digest, latest, delivered)
            if obstacle is None or obstacle is _REFUSED:
                if replica in self._blocked_by or replica in self._waiting:
                    self._release(replica, latest, delivered)
            elif self._keep(entry, sealed, applied, delivered):
                self._blocked_by.setdefault(obstacle, {})[replica] = None
        else:
            self._keep(entry, sealed, applied, delivered)

    def _has_no_room_for(self, replica: str) -> bool:
        """Whether a log would be one more than frames and clocks can name; there is always room for our own."""
        return replica != self.replica and len(self.clock) >= MAX_REPLICAS - (self.replica not in self.clock)

    def _compare(self, entry: Entry, digest: bytes, delivered: Delivered) -> None:
        """An entry under a dot that we have: the same one, or a fork."""
        head = self.heads[entry.replica]
        if entry.seq == head.seq:
            first = head.hash
        else:
            sealed = self._store.sealed(entry.replica, entry.seq)
            # Applied, but not in the store yet: the next time that it comes it will be.
            first = digest if sealed is None else hash_of(sealed)
        if first == digest:
            delivered.known_count += 1
        elif entry.replica == self.replica:
            detail = f"somebody else made entry {entry.seq} of our own log"
            delivered.alarms.append(Alarm(AlarmKind.FORK, entry.replica, detail))
        else:
            self._refuse(entry.replica, AlarmKind.FORK, f"two entries with number {entry.seq}", delivered)

    def _apply(self, entry: Entry, sealed: bytes, digest: bytes, latest: int, delivered: Delivered) -> str | None:
        """Apply the next entry of a log, or say what is in its way: a replica, the clock, or a refused log."""
        replica = entry.replica
        head = self.heads.get(replica) or LogHead(replica)
        try:
            head.check(entry, digest)
        except Fork as error:
            return self._refuse(replica, AlarmKind.FORK, str(error), delivered)
        except Malformed as error:
            return self._refuse(replica, AlarmKind.MALFORMED, str(error), delivered)
        if entry.hlc > latest:
            ahead_ms = ms_of(entry.hlc - latest + self._drift)
            delivered.alarms.append(Alarm(AlarmKind.CLOCK_AHEAD, replica, f"{ahead_ms} ms ahead of our clock"))
            return _CLOCK
        clock = self.clock
        for other, count in entry.delta.items():
            if clock.get(other, 0) < count and other not in self.refused:
                return other
        others = head.advance(entry, digest)
        self.heads[replica] = head
        clock[replica] = self.news[replica] = entry.seq
        delivered.arrivals.append((entry, sealed, others))
        return None

    def _keep(self, entry: Entry, sealed: bytes, applied: int, delivered: Delivered) -> bool:
        """Let an entry wait, if the bounds allow it."""
        size = weight_of(entry, sealed)
        if entry.seq > applied + self._window or self._waiting_bytes + size > MAX_WAITING_BYTES:
            delivered.dropped_count += 1
            return False
        self._waiting.setdefault(entry.replica, {})[entry.seq] = entry, sealed
        self._waiting_bytes += size
        return True

    def _drop_waiting(self, replica: str, seq: int) -> None:
        """Let go of an entry that waits, if it still does."""
        waiting = self._waiting.get(replica)
        if waiting is not None:
            self._waiting_bytes -= weight_of(*waiting.pop(seq))
            if not waiting:
                del self._waiting[replica]

    def _refuse(self, replica: str, kind: AlarmKind, why: str, delivered: Delivered) -> str:
        """Take nothing more of a log. Whoever waits for it has to be released by the caller."""
        if len(self.refused) < MAX_REPLICAS:
            # Beyond that each of its entries is looked at and refused again.
            self.refused[replica] = why
        delivered.alarms.append(Alarm(kind, replica, why))
        for entry, sealed in self._waiting.pop(replica, {}).values():
            self._waiting_bytes -= weight_of(entry, sealed)
            delivered.dropped_count += 1
        return _REFUSED

    def _release(self, first: str, latest: int, delivered: Delivered) -> None:
        """Apply what can be, now that the log `first` has moved or is refused, or that the clock has."""
        if first in self._waiting:
            self._drain(first, latest, delivered)
        changed = [first]
        while changed:
            # Whoever waits for a log comes after it, once it has moved as far as it can. One that has not moved
            # releases nobody: forged entries can wait for each other, and would be looked at for ever.
            blocked = self._blocked_by.pop(changed.pop(), ())
            changed.extend(log for log in blocked if log in self._waiting and self._drain(log, latest, delivered))

    def _drain(self, log: str, latest: int, delivered: Delivered) -> bool:
        """Apply what waits of a log, up to the next obstacle; says whether it moved, or is refused."""
        waiting = self._waiting[log]
        first = seq = self.clock.get(log, 0) + 1
        while (held := waiting.get(seq)) is not None:
            entry, sealed = held
            obstacle = self._apply(entry, sealed, hash_of(sealed), latest, delivered)
            if obstacle is _REFUSED:
                return True
            if obstacle is not None:
                self._blocked_by.setdefault(obstacle, {})[log] = None
                break
            del waiting[seq]
            self._waiting_bytes -= weight_of(entry, sealed)
            seq += 1
        if not waiting:
            del self._waiting[log]
        return seq > first


def weight_of(entry: Entry, sealed: bytes) -> int:
    """How many bytes of memory an entry takes, sealed and opened, within a factor of two."""
    pairs = len(entry.postings) + len(entry.delta) + len(entry.received or ())
    if entry.result is not None:
        pairs += len(entry.result.funding)
    weight = len(sealed) + _BYTES_AN_ENTRY
    if isinstance(entry.content, Compensation):
        pairs += sum(len(part.postings) for part in entry.content.of)
        weight += _BYTES_A_PART * len(entry.content.of)
    return weight + _BYTES_A_PAIR * pairs


def wanted(known: Mapping[str, int], offered: Mapping[str, int], refused: Collection[str] = ()) -> Ranges:
    """What to ask of a peer that offers all up to its clock, knowing (or expecting from others) all up to `known`."""
    return {
        replica: (known.get(replica, 0), count)
        for replica, count in offered.items()
        if count > known.get(replica, 0) and replica not in refused
    }
