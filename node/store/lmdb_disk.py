"""A disk on LMDB: one memory-mapped file, one writer thread, many readers.

Who does what, and why:

- A write transaction belongs to the thread that began it (LMDB's writer lock does), so one thread, the writer, begins
  and ends them all. It keeps the next one begun: `commit` never waits for it.
- The puts are done by the caller of `commit`. py-lmdb lets go of the GIL at every put, and a thread that does a
  thousand of them beside a busy loop asks for it back a thousand times; handing over only the commit costs three.
- `done` is called in the writer thread, when the batch is durable and the next transaction is begun.
- The map grows in the writer thread between two transactions. Reads that would begin meanwhile wait; one that is
  caught in the middle fails inside LMDB, and is done again: so reads need no lock.
- What is not there is an answer, too: the rows on both sides of it are held against their checksums.
- The first unexplained error is the last thing that the store says: after a failed write nobody knows what is on disk.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice, takewhile
from mmap import PAGESIZE
from pathlib import Path
from queue import SimpleQueue
from threading import RLock, Thread
from typing import Final, NamedTuple, NoReturn, TypeAlias

import lmdb

from node.store.directory import DATA_FILE, take
from node.store.errors import DiskFull, StorageError
from node.store.kv import Row, Table, Write, verified
from node.store.lmdb_file import ENGINE, create, damaged, explained, identity, inspect, open_tables
from node.store.neighbours import is_last_in_place, vouch_for_gap

Done: TypeAlias = Callable[[StorageError | None], None]


_ABSENCE_SHOWS: Final = frozenset({Table.META, Table.LOG})
"""Tables in which nobody takes a row's absence for an answer: commits are numbered without gaps, and what `META` lacks
is begun anew or stands there twice."""


class _Order(NamedTuple):
    """What the writer thread is to do with the transaction that it holds open."""

    batch: Sequence[Write]
    done: Done
    failure: lmdb.Error | None  # of a put
    crowded: bool  # the map will soon be full


class LmdbDisk:
    """One region's store in one directory. `get` and `scan` may be called from any thread."""

    def __init__(
        self, path: Path, *, cluster: str, region: str, map_bytes: int = 1 << 30, max_map_bytes: int = 1 << 40
    ) -> None:
        """Open the store, or make it. `map_bytes` is address space, not disk; it doubles up to `max_map_bytes`.

        Raises DirectoryInUse, ForeignDirectory, DirectoryUnreadable, DamagedStore, DiskFull.
        """
        self._path = path
        self._data = path / DATA_FILE
        self._identity = identity(cluster, region)
        self._max_map_bytes = max_map_bytes
        self._refusal: StorageError | None = None  # once it is set, it is the answer to everything
        self._closed = False
        self._in_flight = False  # from commit() until just before its done()
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._remapping = RLock()  # held while `_begin` is anything but the environment's, unless it refuses
        with ExitStack() as opened:
            self._lock = take(path, lambda data: inspect(data, self._identity))
            opened.callback(self._lock.release)
            try:
                if not self._data.exists():
                    create(path, self._identity)
                self._env = lmdb.open(
                    str(path),
                    map_size=_whole_pages(map_bytes),  # LMDB makes it larger where the file is
                    max_dbs=len(Table),
                    max_spare_txns=1,  # readers use one snapshot object again: a third off every get
                    mode=0o600,
                    lib_version=ENGINE,
                )
                opened.callback(self._env.close)
                self._begin: Callable[[lmdb._Database], lmdb.Transaction[bytes]] = self._env.begin
                self._map_bytes = self._env.info()["map_size"]
                self._page_bytes = self._env.stat()["psize"]
                if self._is_crowded():
                    self._grow()
                self._tables = open_tables(self._env, self._identity)
            except (lmdb.Error, OSError) as error:
                raise explained(error, self._data) from error
            started: SimpleQueue[StorageError | None] = SimpleQueue()
            self._writer = Thread(target=self._write, args=(started.put,), name="store-writer", daemon=True)
            self._writer.start()
            if (failure := started.get()) is not None:
                raise failure
            opened.pop_all()

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value in the last committed state, or None. Raises DamagedRow if a row may be there under another key."""
        try:
            return self._get(table, key)
        except lmdb.Error:
            with self._undisturbed():
                return self._get(table, key)

    def _get(self, table: Table, key: bytes) -> bytes | None:
        with self._begin(self._tables[table]) as txn:
            value = txn.get(key)
            if value is None and table not in _ABSENCE_SHOWS:
                with txn.cursor() as cursor:
                    self._check(table, vouch_for_gap(table, cursor, key, is_absent=True))
            return value

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int, reverse: bool = False) -> list[Row]:
        """The first `limit` rows of [start, stop), or the last ones, greatest first. No `stop`: to the end.

        Raises DamagedRow if a row may be missing at an end of a range that has two.
        """
        assert limit > 0
        try:
            return self._scan(table, start, stop, limit, reverse)
        except lmdb.Error:
            with self._undisturbed():
                return self._scan(table, start, stop, limit, reverse)

    def _scan(self, table: Table, start: bytes, stop: bytes | None, limit: int, reverse: bool) -> list[Row]:
        with self._begin(self._tables[table]) as txn, txn.cursor() as cursor:
            if edge := stop if reverse else start:
                self._check(table, vouch_for_gap(table, cursor, edge, is_checked=stop is not None))
            if reverse:
                there = cursor.last() if stop is None or not cursor.set_range(stop) else cursor.prev()
                onwards = takewhile(lambda row: row[0] >= start, cursor.iterprev() if there else ())
            else:
                there = cursor.set_range(start) if start else cursor.first()
                onwards = takewhile(lambda row: stop is None or row[0] < stop, cursor.iternext() if there else ())
            rows = list(islice(onwards, limit))
            if len(rows) == limit:
                self._check(table, is_last_in_place(cursor, rows, start, stop, reverse))
            elif stop is not None and cursor.key():
                verified(table, *cursor.item())
            return rows

    def _check(self, table: Table, is_in_order: bool) -> None:
        if not is_in_order:
            raise damaged(self._data, f"rows of the table {table} are out of order")

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Hold off growth, which fails the reads that it meets: an error that comes again is an error of the store."""
        with self._remapping:
            try:
                yield
            except lmdb.Error as error:
                raise self._fail(error) from error

    def commit(self, batch: Sequence[Write], done: Done) -> None:
        """Write a batch as a whole, or not at all. One at a time: the next after `done`, from one thread only.

        `done` is called in the writer thread and must not raise: with None when the batch is durable, with the error
        when it may or may not be. Raises StorageError when the store has failed before.
        """
        if self._refusal is not None:
            raise self._refused()
        assert not self._in_flight, "a commit is in flight"
        self._in_flight = True
        failure: lmdb.Error | None = None
        crowded = False
        try:
            self._put(self._txn, batch)
            crowded = self._is_crowded()
        except lmdb.Error as error:  # told in the writer thread like any other: only there can the transaction end
            failure = error
        self._orders.put(_Order(batch, done, failure, crowded))

    def commit_now(self, batch: Sequence[Write]) -> None:
        """Write a batch and wait until it is durable: for start-up and for tools. Raises StorageError."""
        landed: SimpleQueue[StorageError | None] = SimpleQueue()
        self.commit(batch, landed.put)
        if (error := landed.get()) is not None:
            raise error

    def free_bytes(self) -> int:
        """How much more can be written, by the disk and by the store's own limit."""
        disk = os.statvfs(self._path)
        return max(0, min(disk.f_bavail * disk.f_frsize, self._max_map_bytes - self.size_bytes()))

    def size_bytes(self) -> int:
        """The size of the data file. It never shrinks; what was deleted in it is used again."""
        return self._data.stat().st_size

    def close(self) -> None:
        """Finish the commit in flight, refuse everything else, let others use the directory."""
        self._refuse(StorageError(f"{self._path}: the store is closed"))
        if self._closed:
            return
        self._closed = True
        self._orders.put(None)
        self._writer.join()
        self._env.close()
        self._lock.release()

    # The writer thread

    def _write(self, started: Done) -> None:
        try:
            self._txn = self._env.begin(write=True)
        except lmdb.Error as error:
            started(self._fail(error))
            return
        started(None)
        try:
            while (order := self._orders.get()) is not None:
                failure = self._finish(order)
                self._in_flight = False
                order.done(failure)
                if failure is not None:
                    break
        finally:
            # Whatever happened: an open transaction would keep close() waiting, and a missing writer every commit.
            self._refuse(StorageError(f"{self._path}: the writer thread has ended; restart the node"))
            self._txn.abort()

    def _finish(self, order: _Order) -> StorageError | None:
        try:
            try:
                if order.failure is not None:
                    raise order.failure
                self._txn.commit()
            except lmdb.MapFullError:
                self._write_again(order.batch)
            else:
                if order.crowded:
                    self._grow()
            self._txn = self._env.begin(write=True)
        except (lmdb.Error, StorageError) as error:
            return self._fail(error)
        return None

    def _write_again(self, batch: Sequence[Write]) -> None:
        """For a batch that does not fit into what is left of the map; growing in good time makes it rare."""
        while True:
            with self._reads_held():
                # py-lmdb's abort waits for a moment in which nobody reads: among busy readers it would wait for ever.
                self._txn.abort()
            self._grow()
            self._txn = self._env.begin(write=True)
            try:
                self._put(self._txn, batch)
                self._txn.commit()
            except lmdb.MapFullError:
                continue
            return

    def _put(self, txn: "lmdb.Transaction[bytes]", batch: Sequence[Write]) -> None:
        tables = self._tables
        for table, key, value in batch:
            if value is None:
                if not txn.delete(key, db=tables[table]):
                    _delete_astray(txn, table, tables[table], key)
            else:
                txn.put(key, value, db=tables[table])

    def _is_crowded(self) -> bool:
        """Whether the map should grow before it is full."""
        used_bytes = (self._env.info()["last_pgno"] + 1) * self._page_bytes
        return self._map_bytes < self._max_map_bytes and 2 * used_bytes > self._map_bytes

    def _grow(self) -> None:
        """Double the map. Only between two transactions of the writer: LMDB moves it, and nobody may be writing."""
        if self._map_bytes >= self._max_map_bytes:
            raise DiskFull(
                f"{self._path}: the store has reached its limit of {self._max_map_bytes:,} bytes;"
                " raise the limit and restart the node"
            )
        map_bytes = _whole_pages(min(2 * self._map_bytes, self._max_map_bytes))
        with self._reads_held():
            self._env.set_mapsize(map_bytes)
        self._map_bytes = map_bytes

    @contextmanager
    def _reads_held(self) -> Iterator[None]:
        """Let no read begin; those that have begun go on."""
        with self._remapping:
            if self._refusal is None:
                self._begin = self._begin_later
            try:
                yield
            finally:
                if self._refusal is None:
                    self._begin = self._env.begin

    def _begin_later(self, table: "lmdb._Database") -> "lmdb.Transaction[bytes]":
        with self._remapping:
            return self._begin(table)

    # Failing

    def _fail(self, error: lmdb.Error | StorageError) -> StorageError:
        self._refuse(error if isinstance(error, StorageError) else explained(error, self._data))
        return self._refused()

    def _refuse(self, refusal: StorageError) -> None:
        """From now on and for good. The first reason stands: those that follow are its consequences."""
        with self._remapping:
            if self._refusal is None:
                self._refusal = refusal
                self._begin = self._refuse_read

    def _refuse_read(self, _table: "lmdb._Database") -> NoReturn:
        raise self._refused()

    def _refused(self) -> StorageError:
        assert self._refusal is not None
        return type(self._refusal)(*self._refusal.args)


def _delete_astray(txn: "lmdb.Transaction[bytes]", table: Table, db: "lmdb._Database", key: bytes) -> None:
    """Delete a row that is not where its key belongs, because a bit of the key has flipped, if there is one.

    Whoever clears a table deletes it from its beginning on, so it is the first one then. From the journal nobody
    deletes but who looks for what is damaged.
    """
    with txn.cursor(db) as cursor:
        there = cursor.first()
        while there and table is Table.LOG and cursor.key() != key:
            there = cursor.next()
        if there and cursor.key() == key:
            cursor.delete()


def _whole_pages(size: int) -> int:
    return -(-size // PAGESIZE) * PAGESIZE
