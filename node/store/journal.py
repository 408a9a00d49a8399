"""The journal: every entry that the node holds, in the order in which it applied them.

Each commit writes one value, its new entries, grouped into runs of consecutive entries of one log that had seen the
same of the other logs; the run says what, so that an entry's whole clock can be had without those before it. Beside it
goes one small row for each log in the commit, which says where to find an entry by its dot. The order of the journal is
causal: whoever reads it from the start never meets an entry before what the entry had seen.

What is read back from the disk is checked, the row by its checksum and every entry by its hash, before anyone sees it.
A commit that fails is noted in ``damaged`` and never shown; the small rows say what was in it, and with which hashes
its logs ended there, so that what peers send in its place can be held against that (see `node.mending`).
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from node.store.errors import DamagedEntry, DamagedRow
from node.store.fragments import whole_entries
from node.store.kv import Overlay, Table
from node.store.rows import dot_key, number_key, number_of, pack, seq_of, unpack
from replication.clock import MAX_SEQ, VectorClock
from replication.entry import HASH_BYTES, Entry, check_hash, hash_of, open_sealed
from replication.filed import Filed

_CACHED_COMMITS: Final = 512
_NUMBER_BYTES: Final = 8
_READINGS: Final = 16_384


class Run(Struct, frozen=True, gc=False, array_like=True):
    """Consecutive entries of one log, sealed, and what all of them had seen of the other logs."""

    replica: str
    first_seq: int
    others: VectorClock
    entries: list[bytes]

    def entries_from(self, seq: int) -> list[bytes]:
        """The entries from number `seq` on."""
        return self.entries[max(0, seq - self.first_seq) :]

    @property
    def end_seq(self) -> int:
        """The number behind the last entry's."""
        return self.first_seq + len(self.entries)


class Stretch(NamedTuple):
    """What a commit has of one log: its numbers, the last one's hash."""

    commit: int
    first_seq: int
    last_seq: int
    last_hash: bytes


class Journal:
    """Reads and writes the log tables of one store."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._recent: OrderedDict[int, list[Run]] = OrderedDict()
        self._open_runs: list[Run] = []
        self._open_entries: dict[tuple[str, int], Filed] = {}
        self._readings: dict[tuple[str, int], int] = {}
        last = overlay.scan(Table.LOG, b"", None, 1, reverse=True)
        self.next_commit = number_of(last[0][0]) + 1 if last else 1
        self.durable_commit = self.next_commit - 1
        """Up to here entries may be shown to others."""
        self.damaged: dict[int, str] = {}
        """Commits that could not be read and have not been put right since, each with what is wrong with it."""

    @property
    def open_count(self) -> int:
        """How many entries the next commit has so far."""
        return len(self._open_entries)

    def open_replicas(self) -> list[str]:
        """The logs of which the next commit has entries, each once, in the order in which they moved first."""
        return list(dict.fromkeys(run.replica for run in self._open_runs))

    def add(self, filed: Filed, sealed: bytes) -> None:
        """Join an entry to the next commit, in the order of application."""
        replica, seq = filed.entry.replica, filed.entry.seq
        join(self._open_runs, filed, sealed)
        self._open_entries[replica, seq] = filed

    def close_commit(self) -> int:
        """Write the entries joined so far as one commit; returns its number."""
        runs, commit = self._open_runs, self.next_commit
        self._write(commit, runs)
        self._open_runs, self._open_entries = [], {}
        self.next_commit = commit + 1
        return commit

    def restore(self, commit: int, entries: Iterable[tuple[Filed, bytes]]) -> None:
        """Write a damaged commit again: the entries that it had, in an order in which they could be applied."""
        runs: list[Run] = []
        for filed, sealed in entries:
            join(runs, filed, sealed)
        self._write(commit, runs)
        self.damaged.pop(commit, None)

    def _write(self, commit: int, runs: list[Run]) -> None:
        write_commit(self._overlay, commit, runs)
        self._remember(commit, runs)

    def runs(self, commit: int) -> list[Run]:
        """The runs of one commit. Raises `DamagedEntry` if what is stored is not what was written."""
        known = self._recent.get(commit)
        if known is None:
            known = self.read(commit)
            self._remember(commit, known)
        return known

    def replay(self, after_commit: int) -> Iterator[tuple[int, list[Run]]]:
        """The commits behind `after_commit`, in order, past the cache. Raises `DamagedEntry`."""
        for commit in range(after_commit + 1, self.next_commit):
            yield commit, self.read(commit)

    def read(self, commit: int) -> list[Run]:
        """As `runs`, past the cache."""
        if commit not in self.damaged:
            try:
                return checked_runs(self._overlay.get(Table.LOG, number_key(commit)))
            except (DamagedRow, ValueError, TypeError) as error:
                self.damaged[commit] = f"commit {commit} of the journal is not what was written: {error}"
        raise DamagedEntry(self.damaged[commit])

    def remains(self, commit: int) -> Iterator[tuple[Entry, bytes]]:
        """The entries of a damaged commit that are whole, with their bytes."""
        try:
            stored = self._overlay.get(Table.LOG, number_key(commit))
        except DamagedRow as error:
            stored = error.stored
        return whole_entries(stored or b"")

    def commit_of(self, replica: str, seq: int) -> int | None:
        """The commit that holds an entry, if there is one."""
        stretch = self._stretch_at(replica, seq)
        return stretch.commit if stretch is not None and seq <= stretch.last_seq else None

    def last_seq(self, replica: str) -> int:
        """The number of a log's last entry, by the index; 0 if there is none."""
        stretch = self._stretch_at(replica, MAX_SEQ)
        return 0 if stretch is None else stretch.last_seq

    def stretches(self, commit: int, held: Mapping[str, int]) -> dict[str, Stretch]:
        """What a commit has of each log, by the index; `held` are the logs, with their lengths."""
        found = ((replica, self._stretch_in(commit, replica, count)) for replica, count in held.items())
        return {replica: stretch for replica, stretch in found if stretch is not None}

    def _stretch_in(self, commit: int, replica: str, count: int) -> Stretch | None:
        """By bisection: a log's entries lie in commits that rise as their numbers do."""
        low, high = 1, count
        while low <= high:
            stretch = self._stretch_at(replica, (low + high) // 2)
            if stretch is None or stretch.commit == commit:
                return stretch
            if stretch.commit < commit:
                low = stretch.last_seq + 1
            else:
                high = stretch.first_seq - 1
        return None

    def _stretch_at(self, replica: str, seq: int) -> Stretch | None:
        rows = self._overlay.scan(Table.DOTS, dot_key(replica, 0), dot_key(replica, seq + 1), 1, reverse=True)
        return stretch_of(*rows[0]) if rows else None

    def find(self, replica: str, seq: int) -> Filed | None:
        """An entry by its dot, with its whole clock. Raises `DamagedEntry` if it is there and cannot be read."""
        joined = self._open_entries.get((replica, seq))
        if joined is not None:
            return joined
        commit = self.commit_of(replica, seq)
        if commit is None:
            return None
        for run in self.runs(commit):
            if run.replica == replica and run.first_seq <= seq < run.end_seq:
                return _file(run, seq, commit)
        return None

    def reading_of(self, replica: str, seq: int) -> int | None:
        """The clock reading of an entry by its dot. Raises as `find` does.

        It is remembered: for every loser it is asked where each log goes on that the loser had not seen the end of,
        and with a log for every boot that there has been, the answers are the same few for most of them.
        """
        reading = self._readings.get((replica, seq))
        if reading is None and (filed := self.find(replica, seq)) is not None:
            if len(self._readings) == _READINGS:
                self._readings.clear()
            reading = self._readings[replica, seq] = filed.position.hlc
        return reading

    def sealed(self, replica: str, seq: int) -> bytes | None:
        """The bytes of an entry by its dot; None also if it is there and cannot be read."""
        commit = self.commit_of(replica, seq)
        try:
            runs = self.runs(commit) if commit is not None else ()
        except DamagedEntry:
            return None
        for run in runs:
            if run.replica == replica and run.first_seq <= seq < run.end_seq:
                return run.entries[seq - run.first_seq]
        return None

    def page(
        self, held: Mapping[str, int], known: Mapping[str, int], limit_entries: int, limit_bytes: int
    ) -> list[tuple[str, int, bytes]]:
        """What somebody with the clock `known` lacks of what this node durably holds (`held`): replica, number, bytes.

        In the order of application, so that the reader can apply each as it comes; as many as the limits allow, and
        at least one if anything is lacking and can be read. What stands in a damaged commit is left out, and so is
        whatever had seen that.
        """
        lacking = {replica: known.get(replica, 0) for replica, count in held.items() if count > known.get(replica, 0)}
        page: list[tuple[str, int, bytes]] = []
        size = 0
        closed: VectorClock = {}
        commit = self._first_commit(lacking)
        while lacking and commit <= self.durable_commit:
            try:
                runs = self.runs(commit)
            except DamagedEntry:
                for replica, stretch in self.stretches(commit, {log: held[log] for log in lacking}).items():
                    if lacking[replica] < stretch.last_seq:
                        closed[replica] = max(stretch.first_seq, lacking.pop(replica) + 1)
                commit = max(commit + 1, self._first_commit(lacking))
                continue
            for run in runs:
                seq = lacking.get(run.replica, run.end_seq) + 1
                if not run.first_seq <= seq < run.end_seq:
                    continue
                if closed and any(run.others.get(replica, 0) >= first for replica, first in closed.items()):
                    closed[run.replica] = seq
                    del lacking[run.replica]
                    continue
                for sealed in run.entries_from(seq):
                    size += len(sealed)
                    if page and (size > limit_bytes or len(page) >= limit_entries):
                        return page
                    page.append((run.replica, seq, sealed))
                    lacking[run.replica] = seq
                    if seq == held[run.replica]:
                        del lacking[run.replica]
                        break
                    seq += 1
            commit += 1
        return page

    def _first_commit(self, known: Mapping[str, int]) -> int:
        """The first commit with an entry behind those that are known."""
        starts = (self.commit_of(replica, count + 1) for replica, count in known.items())
        return min((commit for commit in starts if commit is not None), default=self.next_commit)

    def _remember(self, commit: int, runs: list[Run]) -> None:
        self._recent[commit] = runs
        if len(self._recent) > _CACHED_COMMITS:
            self._recent.popitem(last=False)


def write_commit(overlay: Overlay, commit: int, runs: list[Run]) -> None:
    """Write the rows of a commit."""
    value = pack([(run.replica, run.first_seq, run.others, run.entries) for run in runs])
    overlay.put(Table.LOG, number_key(commit), value)
    index_commit(overlay, commit, runs)


def index_commit(overlay: Overlay, commit: int, runs: list[Run]) -> None:
    """Write the rows that lead to the entries of a commit."""
    first: dict[str, int] = {}
    last: dict[str, Run] = {}
    for run in runs:
        first.setdefault(run.replica, run.first_seq)
        last[run.replica] = run
    for replica, run in last.items():
        stretch = b"%b%b%b" % (number_key(commit), number_key(run.end_seq - 1), hash_of(run.entries[-1]))
        overlay.put(Table.DOTS, dot_key(replica, first[replica]), stretch)


def stretch_of(key: bytes, row: bytes) -> Stretch:
    """What a row of the index says."""
    assert len(row) == 2 * _NUMBER_BYTES + HASH_BYTES
    commit, last = row[:_NUMBER_BYTES], row[_NUMBER_BYTES : 2 * _NUMBER_BYTES]
    return Stretch(number_of(commit), seq_of(key), number_of(last), row[2 * _NUMBER_BYTES :])


def join(runs: list[Run], filed: Filed, sealed: bytes) -> None:
    """Put an entry behind those that are there."""
    replica, seq = filed.entry.replica, filed.entry.seq
    if runs and runs[-1].replica == replica and runs[-1].end_seq == seq and not filed.entry.delta:
        runs[-1].entries.append(sealed)
    else:
        runs.append(Run(replica, seq, filed.others, [sealed]))


def checked_runs(value: bytes | None) -> list[Run]:
    """The runs in a row. Raises ValueError or TypeError if they are not what was written."""
    if value is None:
        raise ValueError("it is not there")
    runs = [Run(*row) for row in unpack(value)]
    for run in runs:
        for sealed in run.entries:
            check_hash(sealed)
    return runs


def _file(run: Run, seq: int, commit: int) -> Filed:
    entry, _ = open_sealed(run.entries[seq - run.first_seq])
    return Filed(entry, entry.position, run.others, commit)


def filed_of(run: Run, commit: int) -> Iterator[tuple[Filed, bytes]]:
    """All entries of a run, filed, with their hashes."""
    for sealed in run.entries:
        entry, digest = open_sealed(sealed)
        yield Filed(entry, entry.position, run.others, commit), digest
