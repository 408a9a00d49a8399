"""Salvage: a journal of which some commits cannot be read becomes one that is whole, though perhaps shorter.

All commits are read once, in their order, and each log is followed hash by hash. An entry stays where it is if the one
before it in its log is there and, once anything was found damaged, all that it had seen is. The others are put
*aside*, by dot: each waits there, on disk, until what is missing before it has come back (see `node.store.aside`). What
is lost is only what no longer has its hash. The index is written anew from what stays.

A commit with nothing left in it stays, empty: commits are numbered without gaps. Each step is one atomic batch that
takes an entry from one place to the other, so the work may be cut off anywhere and begun again.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct, field

from node.store.errors import DamagedRow
from node.store.fragments import whole_entries
from node.store.journal import Run, checked_runs, index_commit, join, write_commit
from node.store.kv import Disk, Overlay, Row, Table, verified
from node.store.rows import dot_key, number_of
from replication.entry import Entry, EntryError, LogHead, hash_of, open_sealed
from replication.filed import Filed

_COMMITS_AT_ONCE: Final = 16
_ENTRIES_AT_ONCE: Final = 500
_CHUNK_ENTRIES: Final = 4_096
_CHUNK_COMMITS: Final = 1_024


class Chunk(Struct):
    """Some consecutive commits: the last one's number, and the least clock reading of an entry in them."""

    last_commit: int
    least_hlc: int
    entries: int


class Salvaged(Struct):
    """What has come of a journal."""

    heads: dict[str, LogHead] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    latest_hlc: int = -1
    """The greatest reading of a whole entry, aside or not."""
    damaged_commits: int = 0
    aside: int = 0
    kept: int = 0
    gaps: set[str] = field(default_factory=set)
    """The logs of which something is aside."""


def readable(table: Table, key: bytes, stored: bytes) -> bytes | None:
    """The value of a row, or None if it is not what was written."""
    try:
        return verified(table, key, stored)
    except DamagedRow:
        return None


def all_rows(disk: Disk, table: Table, at_once: int) -> Iterator[list[Row]]:
    """Every row of a table as it stands on the disk, some at a time; those that were read may be deleted meanwhile."""
    start = b""
    while rows := disk.scan(table, start, None, at_once):
        yield rows
        start = rows[-1][0] + b"\0"


class Salvage:
    """The work on one journal. The caller makes durable what has been written, after each step of `commits`."""

    def __init__(self, disk: Disk, overlay: Overlay) -> None:
        self._disk = disk
        self._overlay = overlay
        self.result = Salvaged()

    def commits(self) -> Iterator[int]:
        """Go through the commits; yields the number of the last one done."""
        expected = 1
        for rows in all_rows(self._disk, Table.LOG, _COMMITS_AT_ONCE):
            for key, stored in rows:
                expected = self._commit(key, stored, expected)
            yield expected - 1

    def put_aside_again(self) -> Iterator[None]:
        """Look through what an earlier salvage has put aside; what is damaged is thrown away."""
        for rows in all_rows(self._disk, Table.ASIDE, _ENTRIES_AT_ONCE):
            for key, stored in rows:
                if readable(Table.ASIDE, key, stored) is None:
                    self._overlay.delete(Table.ASIDE, key)
                    for entry, sealed in whole_entries(stored):
                        self._put_aside(entry, sealed)
            yield

    def _commit(self, key: bytes, stored: bytes, expected: int) -> int:
        """Deal with one row; returns the number that the next commit should have."""
        number = number_of(key)
        value = readable(Table.LOG, key, stored)
        found = _opened(value) if value is not None else None
        if found is None:
            self.result.damaged_commits += 1
            if number != expected:
                # Its number is what is damaged, or those before it are not there: let what is in it find its place.
                self._overlay.delete(Table.LOG, key)
                for entry, sealed in whole_entries(stored):
                    self._put_aside(entry, sealed)
                return expected
            self._write(number, None, list(whole_entries(stored)))
            return number + 1
        for missing in range(expected, number):
            self.result.damaged_commits += 1
            self._write(missing, None, [])
        self._write(number, *found)
        return number + 1

    def _write(self, number: int, stored: list[Run] | None, entries: list[tuple[Entry, bytes]]) -> None:
        runs: list[Run] = []
        least_hlc = self._chunk().least_hlc
        for entry, sealed in entries:
            head = self.result.heads.setdefault(entry.replica, LogHead(entry.replica))
            if entry.seq <= head.seq:
                continue
            if self._follows(head, entry, sealed):
                others = head.advance(entry, hash_of(sealed))
                join(runs, Filed(entry, entry.position, others, number), sealed)
                self.result.latest_hlc = max(self.result.latest_hlc, entry.hlc)
                self.result.kept += 1
                least_hlc = min(least_hlc, entry.hlc)
            else:
                self._put_aside(entry, sealed)
        if runs == stored:
            index_commit(self._overlay, number, runs)
        else:
            write_commit(self._overlay, number, runs)
        chunk = self._chunk()
        chunk.last_commit, chunk.least_hlc, chunk.entries = number, least_hlc, chunk.entries + len(entries)

    def _chunk(self) -> Chunk:
        """The chunk that the next commit belongs to."""
        chunks = self.result.chunks
        first = chunks[-2].last_commit if len(chunks) > 1 else 0
        if not chunks or chunks[-1].entries >= _CHUNK_ENTRIES or chunks[-1].last_commit - first >= _CHUNK_COMMITS:
            chunks.append(Chunk(chunks[-1].last_commit if chunks else 0, 1 << 63, 0))
        return chunks[-1]

    def _follows(self, head: LogHead, entry: Entry, sealed: bytes) -> bool:
        """Whether an entry can stay: the one before it is there, and so is what it had seen."""
        try:
            head.check(entry, hash_of(sealed))
        except EntryError:
            return False
        heads, is_damaged = self.result.heads, self.result.damaged_commits > 0
        for replica, count in entry.delta.items():
            there = heads[replica].seq if replica in heads else 0
            # While nothing is damaged, what is not there was refused, and counts as seen.
            if there < count and (is_damaged or replica in self.result.gaps):
                return False
        return True

    def _put_aside(self, entry: Entry, sealed: bytes) -> None:
        self._overlay.put(Table.ASIDE, dot_key(entry.replica, entry.seq), sealed)
        self.result.gaps.add(entry.replica)
        self.result.latest_hlc = max(self.result.latest_hlc, entry.hlc)
        self.result.aside += 1


def _opened(value: bytes) -> tuple[list[Run], list[tuple[Entry, bytes]]] | None:
    """What a row says, and the entries in it; None if that is nothing that such a row may say."""
    try:
        runs = checked_runs(value)
        return runs, [(open_sealed(sealed)[0], sealed) for run in runs for sealed in run.entries]
    except (ValueError, TypeError):
        return None
