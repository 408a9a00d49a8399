"""A store that nobody works in, read and never changed: a backup, perhaps on a medium that cannot be written to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice, takewhile
from pathlib import Path

import lmdb

from node.store.directory import DATA_FILE, DirectoryLock
from node.store.kv import Row, Table
from node.store.lmdb_file import ENGINE, explained, inspect


@contextmanager
def unused(directory: Path) -> Iterator[None]:
    """Keep others from working in a directory meanwhile. Raises DirectoryInUse if somebody does."""
    try:
        lock = DirectoryLock(directory)
    except OSError:
        yield  # not even a lock file can be made there, so no node can work there
        return
    try:
        yield
    finally:
        lock.release()


class LmdbReader:
    """The rows of a store as they are on disk. Use it with ``with``; the directory must be `unused` meanwhile."""

    def __init__(self, directory: Path, ours: Mapping[bytes, bytes]) -> None:
        """`ours` says whose store it must be (`lmdb_file.identity`). Raises StorageError."""
        self._data = directory / DATA_FILE
        inspect(self._data, ours)
        self._tables: dict[Table, lmdb._Database] = {}
        try:
            self._env = lmdb.open(
                str(self._data), subdir=False, readonly=True, lock=False, max_dbs=len(Table), lib_version=ENGINE
            )
            for table in Table:
                with suppress(lmdb.NotFoundError):  # of a version that had no such table: it has no rows
                    self._tables[table] = self._env.open_db(table.encode(), create=False)
        except lmdb.Error as error:
            raise explained(error, self._data) from error

    def __enter__(self) -> "LmdbReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._env.close()

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value, or None. Raises StorageError."""
        rows = self.scan(table, key, key + b"\0", 1)
        return rows[0][1] if rows else None

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int, reverse: bool = False) -> list[Row]:
        """The first `limit` rows of [start, stop), or the last ones, greatest first. Raises StorageError."""
        if table not in self._tables:
            return []
        try:
            with self._env.begin(self._tables[table]) as txn, txn.cursor() as cursor:
                if reverse:
                    there = cursor.last() if stop is None or not cursor.set_range(stop) else cursor.prev()
                    backwards = cursor.iterprev() if there else iter(())
                    return list(islice(takewhile(lambda row: row[0] >= start, backwards), limit))
                there = cursor.set_range(start) if start else cursor.first()
                onwards = cursor.iternext() if there else iter(())
                return list(islice(takewhile(lambda row: stop is None or row[0] < stop, onwards), limit))
        except lmdb.Error as error:
            raise explained(error, self._data) from error
