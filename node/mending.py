"""Mending: a commit of the journal that can no longer be read is made again from what others hold of it.

The journal notes such a commit when it meets it (`Journal.damaged`), and never shows it. What was in it the index says:
for each log the first and the last number, and the last one's hash. The entries are looked for

    in what is left of the row     those whose hash shows that they are whole
    in memory                      those that are not checkpointed yet; so what no peer has received survives too
    at the peers                   asked one after the other, in pages, for these very numbers; whoever has nothing, or
                                   has something else, is followed by the next

and believed when the chain of hashes leads from the one in the index back through all of them. Then the commit is
written again, in an order in which its entries could be applied. Until then its alarm says what is wrong, and whoever
needs one of its entries waits (`DamagedEntry`). What no peer has is asked for again and again.

Pure: the region calls it, and passes on what comes in.
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from msgspec import Struct, field

from node.alarms import AlarmKind, Alarms
from node.store.errors import DamagedEntry
from node.store.journal import Journal, Stretch
from replication.clock import MAX_SEQ, VectorClock
from replication.codec import Ranges
from replication.entry import Entry, Malformed, hash_of, open_sealed
from replication.filed import Filed

_ASKED_AT_ONCE: Final = 16
"""Commits for which peers are asked at a time: what has come of them is in memory."""

_Entries = dict[int, tuple[Entry, bytes]]


class Wound(Struct):
    """A damaged commit, and what has been found of it. Times in ms."""

    commit: int
    stretches: dict[str, Stretch]
    found: dict[str, _Entries]
    lacking: int
    """How many entries are not found."""
    asked_at: int = 0
    asked_of: set[str] = field(default_factory=set)
    """Since when, and of whom, all that is missing has been asked for."""

    def keep(self, entry: Entry, sealed: bytes) -> bool:
        """Keep an entry, if it is one of this commit's; whether it is."""
        stretch = self.stretches.get(entry.replica)
        if stretch is None or not stretch.first_seq <= entry.seq <= stretch.last_seq:
            return False
        found = self.found[entry.replica]
        if entry.seq not in found:
            found[entry.seq] = entry, sealed
            self.lacking -= 1
        return True

    def drop(self, replica: str, seq: int) -> None:
        """Throw away what was found of a log up to a number."""
        found = self.found[replica]
        for wrong in [each for each in found if each <= seq]:
            del found[wrong]
            self.lacking += 1

    def missing(self) -> Iterator[tuple[str, int, int]]:
        """For each log the first and the last number between which something is missing."""
        for replica, stretch in self.stretches.items():
            found = self.found[replica]
            lacking = [seq for seq in range(stretch.first_seq, stretch.last_seq + 1) if seq not in found]
            if lacking:
                yield replica, lacking[0], lacking[-1]


class Mender:
    """The damaged commits of one journal, on their way to being whole again.

    Relations kept: ``_wounds`` holds those of ``journal.damaged`` that have been looked at; ``_by_log`` their stretches
    by log, in order, as (first number, commit). `in_memory` gives the entries of some commits that the region has in
    memory; `held` counts what is durable.
    """

    def __init__(
        self,
        journal: Journal,
        alarms: Alarms,
        held: Callable[[], VectorClock],
        in_memory: Callable[[set[int]], Iterable[tuple[Entry, bytes]]],
        interval_ms: int,
    ) -> None:
        self._journal = journal
        self._alarms = alarms
        self._held = held
        self._in_memory = in_memory
        self._interval_ms = interval_ms
        self._wounds: dict[int, Wound] = {}
        self._by_log: dict[str, list[tuple[int, int]]] = {}
        self.mended = 0
        """How many commits were made whole again."""

    @property
    def damaged(self) -> int:
        """How many commits cannot be read at present."""
        return len(self._journal.damaged)

    def look(self, now: int) -> None:
        """Take up what the journal has met since, and put back what is complete."""
        fresh = {commit for commit in self._journal.damaged if commit not in self._wounds}
        if fresh:
            self._take_up(fresh, now)
        for wound in list(self._wounds.values()):
            self._close(wound, "", now)

    def _take_up(self, fresh: set[int], now: int) -> None:
        for commit in sorted(fresh):
            stretches = self._journal.stretches(commit, self._held())
            count = sum(stretch.last_seq - stretch.first_seq + 1 for stretch in stretches.values())
            wound = self._wounds[commit] = Wound(commit, stretches, {replica: {} for replica in stretches}, count)
            for replica, stretch in stretches.items():
                insort(self._by_log.setdefault(replica, []), (stretch.first_seq, commit))
            self._keep_remains(wound)
            detail = f"{self._journal.damaged[commit]}; in it {_told(wound)}; {wound.lacking} of {count} are lost"
            self._alarms.raise_(AlarmKind.DAMAGED, _subject(wound), detail, now)
            self._alarms.amend(AlarmKind.DAMAGED, _subject(wound), detail)
        for entry, sealed in self._in_memory(fresh):
            self._keep(entry, sealed)

    def _keep_remains(self, wound: Wound) -> None:
        for entry, sealed in self._journal.remains(wound.commit):
            wound.keep(entry, sealed)

    def _keep(self, entry: Entry, sealed: bytes) -> Wound | None:
        """Keep an entry for the damaged commit that had it, if there is one."""
        begins = self._by_log.get(entry.replica, [])
        index = bisect_right(begins, (entry.seq, MAX_SEQ)) - 1
        wound = self._wounds[begins[index][1]] if index >= 0 else None
        return wound if wound is not None and wound.keep(entry, sealed) else None

    # -- asking -----------------------------------------------------------------------------------------------------

    def question(self, peer: str, offered: VectorClock, now: int) -> Ranges:
        """What to ask of a peer now: of each log one range, of what it offers and was not just asked for."""
        ranges: Ranges = {}
        asking = 0
        for wound in self._wounds.values():
            if asking == _ASKED_AT_ONCE:
                break
            if not wound.lacking or not self._is_turn_of(peer, wound, now):
                continue
            parts = {
                replica: (first - 1, min(last, offered.get(replica, 0)))
                for replica, first, last in wound.missing()
                if offered.get(replica, 0) >= first and replica not in ranges
            }
            if parts:
                ranges |= parts
                wound.asked_of.add(peer)
                wound.asked_at = now
                asking += 1
        return ranges

    def _is_turn_of(self, peer: str, wound: Wound, now: int) -> bool:
        waited_ms = now - wound.asked_at
        if peer in wound.asked_of:
            if 0 <= waited_ms < 2 * self._interval_ms:
                return False
            # Nobody else has anything to offer: begin again.
            wound.asked_of.clear()
        return not wound.asked_of or not 0 <= waited_ms < self._interval_ms

    # -- answers ----------------------------------------------------------------------------------------------------

    def take(self, page: list[bytes], sender: str, now: int) -> list[bytes]:
        """Keep what is missing here of a page from the region `sender`; returns the rest of it."""
        rest: list[bytes] = []
        touched: dict[int, Wound] = {}
        for sealed in page:
            try:
                entry, _ = open_sealed(sealed)
            except Malformed:
                wound = None  # whoever takes in the rest says so
            else:
                wound = self._keep(entry, sealed)
            if wound is None:
                rest.append(sealed)
            else:
                touched[wound.commit] = wound
        for wound in touched.values():
            # More may be had of whoever had this.
            wound.asked_of.clear()
            self._close(wound, sender, now)
        return rest

    # -- putting back -----------------------------------------------------------------------------------------------

    def _close(self, wound: Wound, sender: str, now: int) -> None:
        """Write the commit again, if everything is there and is what it was."""
        if wound.lacking or not self._is_genuine(wound, sender, now):
            return
        try:
            entries = list(self._in_order(wound))
        except DamagedEntry:
            return  # what its first entries follow is to be mended first
        self._journal.restore(wound.commit, entries)
        del self._wounds[wound.commit]
        for replica, stretch in wound.stretches.items():
            self._by_log[replica].remove((stretch.first_seq, wound.commit))
        self.mended += 1
        source = f"with what {sender} sent" if sender else "from what is left of it and from memory"
        self._alarms.amend(AlarmKind.DAMAGED, _subject(wound), f"{_told(wound)}: whole again, {source}")

    def _is_genuine(self, wound: Wound, sender: str, now: int) -> bool:
        """Whether the chain leads back from the last entries; what does not belong to it is thrown away."""
        wrong: list[tuple[str, int]] = []
        for replica, stretch in wound.stretches.items():
            found, expected = wound.found[replica], stretch.last_hash
            for seq in range(stretch.last_seq, stretch.first_seq - 1, -1):
                entry, sealed = found[seq]
                if hash_of(sealed) != expected:
                    wrong.append((replica, seq))
                    break
                expected = entry.prev
        for replica, seq in wrong:
            detail = f"{sender} sent another entry {seq} than the one that was here"
            self._alarms.raise_(AlarmKind.FORK, replica, detail, now)
            wound.drop(replica, seq)
        if wrong:
            self._keep_remains(wound)
            wound.asked_of.add(sender)
            wound.asked_at = now
        return not wrong

    def _in_order(self, wound: Wound) -> Iterator[tuple[Filed, bytes]]:
        """The entries with their clocks, each after those of this commit that it had seen. Raises `DamagedEntry`."""
        logs = {replica: [found[seq] for seq in sorted(found)] for replica, found in wound.found.items()}
        clocks = {replica: self._seen_before(replica, wound.stretches[replica].first_seq) for replica in logs}
        ends = {replica: stretch.last_seq for replica, stretch in wound.stretches.items()}
        reached = {replica: stretch.first_seq - 1 for replica, stretch in wound.stretches.items()}

        def has_come(other: str, count: int) -> bool:
            return reached.get(other, count) >= min(count, ends.get(other, count))

        while logs:
            moved = False
            for replica, entries in list(logs.items()):
                while entries and all(has_come(other, count) for other, count in entries[0][0].delta.items()):
                    entry, sealed = entries.pop(0)
                    if entry.delta:
                        clocks[replica] = {**clocks[replica], **entry.delta}
                    reached[replica] = entry.seq
                    moved = True
                    yield Filed(entry, entry.position, clocks[replica], wound.commit), sealed
                if not entries:
                    del logs[replica]
            assert moved, f"the entries of commit {wound.commit} wait for each other"

    def _seen_before(self, replica: str, seq: int) -> VectorClock:
        """What the entry before an entry had seen of other logs."""
        if seq == 1:
            return {}
        before = self._journal.find(replica, seq - 1)
        assert before is not None, f"{replica} begins in the middle"
        return before.others


def _subject(wound: Wound) -> str:
    return f"commit {wound.commit}"


def _told(wound: Wound) -> str:
    """The entries of a commit, for people."""
    return ", ".join(
        f"{replica}:{stretch.first_seq}" + (f"–{stretch.last_seq}" if stretch.last_seq > stretch.first_seq else "")
        for replica, stretch in wound.stretches.items()
    )
