"""A disk that outlives the process: what has landed is there, what was on its way is there whole or not at all.

How a real store keeps that promise when sectors vanish is another test's business. Beside the rows the disk knows, by
what was handed to it and not by what a node believes, which entries are on it.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from random import Random
from typing import Final

from node.store.kv import MemoryDisk, Row, Table, Write

Dot = tuple[str, int]

Dots = dict[str, int]
"""Replica to the number of its entries: logs have no gaps."""

_SHARE_OF_ENTRIES: Final = 0.6
_MOST_ROWS: Final = 10_000


class SimulatedDisk:
    """The disk of one region. May be replaced by an older copy of itself."""

    def __init__(self) -> None:
        self.rows = MemoryDisk()
        self.entries: Dots = {}
        self._commits: dict[bytes, list[Dot]] = {}

    def get(self, table: Table, key: bytes) -> bytes | None:
        """As `node.store.kv.Disk`."""
        return self.rows.get(table, key)

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int, reverse: bool = False) -> list[Row]:
        """As `node.store.kv.Disk`."""
        return self.rows.scan(table, start, stop, limit, reverse)

    def land(self, batch: Iterable[Write], commits: Mapping[bytes, list[Dot]]) -> None:
        """A batch is on disk, and with it the entries of some commits, by their keys."""
        self.rows.write(batch)
        for key, dots in commits.items():
            self._commits[key] = dots
            for replica, seq in dots:
                assert seq == self.entries.get(replica, 0) + 1, f"{replica}:{seq} lands behind {self.entries}"
                self.entries[replica] = seq

    def damage(self, random: Random) -> tuple[str | None, list[Dot]]:
        """Flip a bit of some stored value; says of which, if there is any, and which entries were stored in it."""
        tables = [table for table in Table if self.rows.scan(table, b"", None, 1)]
        table = Table.LOG if random.random() < _SHARE_OF_ENTRIES or not tables else random.choice(tables)
        rows = self.rows.scan(table, b"", None, _MOST_ROWS)
        if not rows:
            return None, []
        key, _ = random.choice(rows)
        self.rows.damage(table, key, random.randrange(2**20))
        return f"{table} {key.hex()}", self._commits.get(key, []) if table is Table.LOG else []

    def copy(self) -> "SimulatedDisk":
        """A backup."""
        return deepcopy(self)

    def holds(self, replica: str, seq: int) -> bool:
        """Whether an entry is on this disk."""
        return seq <= self.entries.get(replica, 0)
