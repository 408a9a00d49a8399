"""What a region needs of a disk, and how it reads its own writes before they are there.

The region is pure: it never waits for a disk. It reads through an `Overlay`, which lays the writes that are not yet
durable over the last committed state. The host moves them to the disk:

    batch = overlay.seal()      the writes since the last seal: one atomic batch, now in flight, still visible
    ... the disk makes the batch durable ...
    overlay.landed()            the oldest batch in flight is on disk: from here on the disk answers for it

Batches land in the order in which they were sealed. Keys are ordered as bytes, and a range is always [start, stop).

What goes to the disk is checked: each value is followed by a checksum over table, key and value, which is held against
it whenever it is read. So a disk that gives back something else than it was given, or something that was written under
another key, is found out before anybody relies on it. The checksum finds faults, not forgers: CRC-32 is the cheapest
that finds every flipped bit, and entries have their hashes beside it.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import chain, islice
from typing import Final, Protocol, TypeAlias
from zlib import crc32

from node.store.errors import DamagedRow

MAX_KEY_BYTES: Final = 511  # LMDB's limit, kept everywhere so that the simulator meets it before production does
ROWS_AT_ONCE: Final = 1_000
"""Of a range that is read some rows at a time."""
FEW_KEYS: Final = 32  # from here on sorting once is cheaper than inserting one by one


class Table(StrEnum):
    """The ordered maps of a store. The values are names on disk: a renamed table is an empty table."""

    META = "meta"
    LOG = "log"
    DOTS = "dots"
    STATES = "states"
    LOTS = "lots"
    OPEN = "open"
    CLOSED = "closed"
    KEYS = "keys"
    HISTORY = "history"
    RUNNING = "running"
    RESTING = "resting"
    POLICIES = "policies"
    CONFLICTS = "conflicts"
    CONFLICT_ORDER = "conflict-order"
    UNSETTLED = "unsettled"
    OWED = "owed"
    ASIDE = "aside"
    SNAPSHOTS = "snapshots"

    seed: int
    """What the checksums of this table's rows begin with."""

    def __init__(self, name: str) -> None:
        self.seed = crc32(name.encode())


Write: TypeAlias = tuple[Table, bytes, bytes | None]  # None deletes
Row: TypeAlias = tuple[bytes, bytes]


_CHECK_BYTES: Final = 4
_RESIDUE: Final = 0x2144DF1C
"""What CRC-32 makes of anything that is followed by its own CRC-32, least byte first."""


def checked(table: Table, key: bytes, value: bytes) -> bytes:
    """The value as it stands on a disk: with its checksum."""
    ((_, _, stored),) = _checked_rows(table, {key: value})
    assert stored is not None
    return stored


def _checked_rows(table: Table, rows: Mapping[bytes, bytes | None]) -> Iterator[Write]:
    """As `checked`, for many: a call for each would cost as much as the sum itself."""
    seed = table.seed
    for key, value in rows.items():
        if value is None:
            yield table, key, None
        else:
            yield table, key, value + crc32(value, crc32(key, seed)).to_bytes(_CHECK_BYTES, "little")


def verified(table: Table, key: bytes, stored: bytes) -> bytes:
    """The value that `checked` was given. Raises DamagedRow if that is not what stands on the disk."""
    if len(stored) < _CHECK_BYTES or crc32(stored, crc32(key, table.seed)) != _RESIDUE:
        raise DamagedRow(table, key, stored, "its checksum does not match")
    return stored[:-_CHECK_BYTES]


class Disk(Protocol):
    """The last committed state, values with their checksums.

    Every call reads one snapshot, which is let go before the call returns.
    """

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value, or None. Raises StorageError when the store has failed."""

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int, reverse: bool = False) -> list[Row]:
        """The first `limit` rows of [start, stop), or the last ones, greatest first. No `stop`: to the end."""


class _Pending(dict[bytes, bytes | None]):
    """One batch's writes to one table. It only grows, so its newest keys are those at the end of the dict."""

    __slots__ = ("_ordered",)

    def __init__(self) -> None:
        super().__init__()
        self._ordered: list[bytes] = []  # the oldest len(_ordered) keys, in key order: brought up to date by a scan

    def between(self, start: bytes, stop: bytes | None) -> list[bytes]:
        """The keys of [start, stop), in order."""
        ordered = self._ordered
        fresh = islice(reversed(self), len(self) - len(ordered))
        if len(self) - len(ordered) > FEW_KEYS:
            ordered.extend(fresh)
            ordered.sort()
        else:
            for key in fresh:
                insort(ordered, key)
        return _between(ordered, start, stop)


def _between(ordered: list[bytes], start: bytes, stop: bytes | None) -> list[bytes]:
    first = bisect_left(ordered, start)
    return ordered[first:] if stop is None else ordered[first : bisect_left(ordered, stop)]


class Overlay:
    """A disk as it will be when all that was written has landed."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._open: dict[Table, _Pending] = {}
        self._sealed: deque[dict[Table, _Pending]] = deque()  # oldest first
        # Per table, newest first: its part of the open batch and of every sealed one, where there is such a part.
        self._layers: dict[Table, list[_Pending]] = {table: [] for table in Table}

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value that was written last, or None. Raises DamagedRow if it is not what was written."""
        for pending in self._layers[table]:
            if key in pending:
                return pending[key]
        stored = self._disk.get(table, key)
        return None if stored is None else verified(table, key, stored)

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int, reverse: bool = False) -> list[Row]:
        """The first `limit` rows of [start, stop), or the last ones, greatest first. No `stop`: to the end.

        Raises DamagedRow if one of them is not what was written.
        """
        assert limit > 0
        pending: dict[bytes, bytes | None] = {}
        for layer in reversed(self._layers[table]):  # oldest first, so that the newest write of a key stands
            for key in layer.between(start, stop):
                pending[key] = layer[key]
        if not pending:
            rows = self._disk.scan(table, start, stop, limit, reverse)
            return [(key, verified(table, key, stored)) for key, stored in rows]
        # Of `limit + deleted` rows on disk at least `limit` are still there, so nothing beyond them can be needed.
        deleted = sum(value is None for value in pending.values())
        merged = pending
        for key, stored in self._disk.scan(table, start, stop, limit + deleted, reverse):
            if key not in pending:
                merged[key] = verified(table, key, stored)
        rows = [(key, value) for key, value in merged.items() if value is not None]
        rows.sort(reverse=reverse)
        return rows[:limit]

    def rows(self, table: Table, start: bytes = b"", stop: bytes | None = None) -> Iterator[Row]:
        """All rows of [start, stop), in order, read some at a time: those that were given may be deleted meanwhile.

        Raises DamagedRow as `scan`.
        """
        while rows := self.scan(table, start, stop, ROWS_AT_ONCE):
            yield from rows
            start = rows[-1][0] + b"\0"

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Set a value. A key has 1 to MAX_KEY_BYTES bytes."""
        self._writes(table, key)[key] = value

    def delete(self, table: Table, key: bytes) -> None:
        """Remove a key, if it is there."""
        self._writes(table, key)[key] = None

    def _writes(self, table: Table, key: bytes) -> _Pending:
        # Here, not on disk: a key that no disk takes must be found before anyone relies on the write.
        assert 0 < len(key) <= MAX_KEY_BYTES, f"{table}: a key of {len(key)} bytes"
        pending = self._open.get(table)
        if pending is None:
            pending = self._open[table] = _Pending()
            self._layers[table].insert(0, pending)
        return pending

    def seal(self) -> list[Write]:
        """The writes since the last seal, as one atomic batch in flight. Empty: nothing was written, nothing lands."""
        batch = list(chain.from_iterable(_checked_rows(table, pending) for table, pending in self._open.items()))
        if batch:
            self._sealed.append(self._open)
            self._open = {}
        return batch

    def landed(self) -> None:
        """The oldest batch in flight is on disk."""
        for table, pending in self._sealed.popleft().items():
            oldest = self._layers[table].pop()
            assert oldest is pending, f"{table}: batches must land in the order in which they were sealed"


class MemoryDisk:
    """A disk that is a few sorted lists: for tests and for the simulator, which decides what survives a crash."""

    def __init__(self) -> None:
        self._values: dict[Table, dict[bytes, bytes]] = {table: {} for table in Table}
        self._ordered: dict[Table, list[bytes]] = {table: [] for table in Table}  # the keys of _values

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value, or None."""
        return self._values[table].get(key)

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int, reverse: bool = False) -> list[Row]:
        """The first `limit` rows of [start, stop), or the last ones, greatest first. No `stop`: to the end."""
        assert limit > 0
        ordered, values = self._ordered[table], self._values[table]
        first = bisect_left(ordered, start)
        end = len(ordered) if stop is None else max(first, bisect_left(ordered, stop))
        if reverse:
            return [(key, values[key]) for key in reversed(ordered[max(first, end - limit) : end])]
        return [(key, values[key]) for key in ordered[first : min(end, first + limit)]]

    def write(self, batch: Iterable[Write]) -> None:
        """Take a whole batch."""
        for table, key, value in batch:
            assert 0 < len(key) <= MAX_KEY_BYTES, f"{table}: a key of {len(key)} bytes"
            values, ordered = self._values[table], self._ordered[table]
            if value is None:
                if values.pop(key, None) is not None:
                    del ordered[bisect_left(ordered, key)]
            else:
                if key not in values:
                    insort(ordered, key)
                values[key] = value

    def damage(self, table: Table, key: bytes, bit: int) -> None:
        """Flip one bit of a stored value, as a bad disk does; counted from its first byte on, round and round."""
        value = bytearray(self._values[table][key])
        place, shift = divmod(bit % (8 * len(value)), 8)
        value[place] ^= 1 << shift
        self._values[table][key] = bytes(value)
