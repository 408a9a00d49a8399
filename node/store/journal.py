"""The journal: every entry that the node holds, in the order in which it applied them.

Each commit writes one value, its new entries, grouped into runs of consecutive entries of one log that had seen the
same of the other logs; the run says what, so that an entry's whole clock can be had without those before it. Beside it
goes one small row for each log in the commit, which says where to find an entry by its dot. The order of the journal is
causal: whoever reads it from the start never meets an entry before what the entry had seen.

What is read back from the disk is checked against its hash before anyone sees it.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from node.store.errors import DamagedStore
from node.store.kv import Overlay, Table
from node.store.rows import dot_key, number_key, number_of, pack, unpack
from replication.clock import VectorClock
from replication.entry import check_hash, open_sealed
from replication.filed import Filed

_CACHED_COMMITS: Final = 512
_SCANNED_COMMITS: Final = 64


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


class Journal:
    """Reads and writes the log tables of one store."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._recent: OrderedDict[int, list[Run]] = OrderedDict()
        self._open_runs: list[Run] = []
        self._open_entries: dict[tuple[str, int], Filed] = {}
        last = overlay.scan(Table.LOG, b"", None, 1, reverse=True)
        self.next_commit = number_of(last[0][0]) + 1 if last else 1
        self.durable_commit = self.next_commit - 1
        """Up to here entries may be shown to others."""

    @property
    def open_count(self) -> int:
        """How many entries the next commit has so far."""
        return len(self._open_entries)

    def open_replicas(self) -> set[str]:
        """The logs of which the next commit has entries."""
        return {run.replica for run in self._open_runs}

    def add(self, filed: Filed, sealed: bytes) -> None:
        """Join an entry to the next commit, in the order of application."""
        replica, seq = filed.entry.replica, filed.entry.seq
        runs = self._open_runs
        if runs and runs[-1].replica == replica and runs[-1].end_seq == seq and not filed.entry.delta:
            runs[-1].entries.append(sealed)
        else:
            runs.append(Run(replica, seq, filed.others, [sealed]))
        self._open_entries[replica, seq] = filed

    def close_commit(self) -> int:
        """Write the entries joined so far as one commit; returns its number."""
        runs, commit = self._open_runs, self.next_commit
        self._overlay.put(
            Table.LOG,
            number_key(commit),
            pack([(run.replica, run.first_seq, run.others, run.entries) for run in runs]),
        )
        indexed: set[str] = set()
        for run in runs:
            if run.replica not in indexed:
                indexed.add(run.replica)
                self._overlay.put(Table.DOTS, dot_key(run.replica, run.first_seq), number_key(commit))
        self._remember(commit, runs)
        self._open_runs, self._open_entries = [], {}
        self.next_commit = commit + 1
        return commit

    def runs(self, commit: int) -> list[Run]:
        """The runs of one commit. Raises `DamagedStore` if what is stored is not what was written."""
        known = self._recent.get(commit)
        if known is not None:
            return known
        value = self._overlay.get(Table.LOG, number_key(commit))
        runs = _checked_runs(commit, value) if value is not None else []
        self._remember(commit, runs)
        return runs

    def replay(self, after_commit: int) -> Iterator[tuple[int, list[Run]]]:
        """The commits behind `after_commit`, in order, past the cache."""
        start = after_commit + 1
        while rows := self._overlay.scan(Table.LOG, number_key(start), None, _SCANNED_COMMITS):
            for key, value in rows:
                commit = number_of(key)
                yield commit, _checked_runs(commit, value)
            start = number_of(rows[-1][0]) + 1

    def commit_of(self, replica: str, seq: int) -> int | None:
        """The commit that holds an entry, if the node has that log so far."""
        rows = self._overlay.scan(Table.DOTS, dot_key(replica, 0), dot_key(replica, seq + 1), 1, reverse=True)
        return number_of(rows[0][1]) if rows else None

    def find(self, replica: str, seq: int) -> Filed | None:
        """An entry by its dot, with its whole clock."""
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

    def sealed(self, replica: str, seq: int) -> bytes | None:
        """The bytes of an entry by its dot."""
        commit = self.commit_of(replica, seq)
        for run in self.runs(commit) if commit is not None else ():
            if run.replica == replica and run.first_seq <= seq < run.end_seq:
                return run.entries[seq - run.first_seq]
        return None

    def page(
        self, held: Mapping[str, int], known: Mapping[str, int], limit_entries: int, limit_bytes: int
    ) -> list[tuple[str, int, bytes]]:
        """What somebody with the clock `known` lacks of what this node durably holds (`held`): replica, number, bytes.

        In the order of application, so that the reader can apply each as it comes; as many as the limits allow, and
        at least one if anything is lacking.
        """
        starts = [
            commit
            for replica, count in held.items()
            if count > known.get(replica, 0)
            and (commit := self.commit_of(replica, known.get(replica, 0) + 1)) is not None
        ]
        if not starts:
            return []
        reached = dict(known)
        page: list[tuple[str, int, bytes]] = []
        size = 0
        lacking = sum(count - known.get(replica, 0) for replica, count in held.items() if count > known.get(replica, 0))
        for commit in range(min(starts), self.durable_commit + 1):
            if len(page) == lacking:
                break
            for run in self.runs(commit):
                seq = reached.get(run.replica, 0) + 1
                if not run.first_seq <= seq < run.end_seq:
                    continue
                for sealed in run.entries_from(seq):
                    size += len(sealed)
                    if page and (size > limit_bytes or len(page) >= limit_entries):
                        return page
                    page.append((run.replica, seq, sealed))
                    reached[run.replica] = seq
                    seq += 1
        return page

    def _remember(self, commit: int, runs: list[Run]) -> None:
        self._recent[commit] = runs
        if len(self._recent) > _CACHED_COMMITS:
            self._recent.popitem(last=False)


def _checked_runs(commit: int, value: bytes) -> list[Run]:
    try:
        runs = [Run(*row) for row in unpack(value)]
        for run in runs:
            for sealed in run.entries:
                check_hash(sealed)
    except (ValueError, TypeError) as error:
        raise DamagedStore(
            f"commit {commit} of the journal is not what was written: {error};"
            " move the directory away and start again: what the peers hold comes back from them"
        ) from None
    return runs


def _file(run: Run, seq: int, commit: int) -> Filed:
    entry, _ = open_sealed(run.entries[seq - run.first_seq])
    return Filed(entry, entry.position, run.others, commit)


def filed_of(run: Run, commit: int) -> Iterator[tuple[Filed, bytes]]:
    """All entries of a run, filed, with their hashes."""
    for sealed in run.entries:
        entry, digest = open_sealed(sealed)
        yield Filed(entry, entry.position, run.others, commit), digest
