"""A disk that outlives the process: what has landed is there, what was on its way is there whole or not at all.

How a real store keeps that promise when sectors vanish is another test's business. Beside the rows the disk knows, by
what was handed to it and not by what a node believes, which entries are on it.
"""

from collections.abc import Iterable
from copy import deepcopy

from node.store.kv import MemoryDisk, Row, Table, Write

Dots = dict[str, int]
"""Replica to the number of its entries: logs have no gaps."""


class SimulatedDisk:
    """The disk of one region. May be replaced by an older copy of itself."""

    def __init__(self) -> None:
        self.rows = MemoryDisk()
        self.entries: Dots = {}

    def get(self, table: Table, key: bytes) -> bytes | None:
        """As `node.store.kv.Disk`."""
        return self.rows.get(table, key)

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int, reverse: bool = False) -> list[Row]:
        """As `node.store.kv.Disk`."""
        return self.rows.scan(table, start, stop, limit, reverse)

    def land(self, batch: Iterable[Write], dots: Iterable[tuple[str, int]]) -> None:
        """A batch is on disk, and with it the entries named."""
        self.rows.write(batch)
        for replica, seq in dots:
            assert seq == self.entries.get(replica, 0) + 1, f"{replica}:{seq} lands behind {self.entries}"
            self.entries[replica] = seq

    def copy(self) -> "SimulatedDisk":
        """A backup."""
        return deepcopy(self)

    def holds(self, replica: str, seq: int) -> bool:
        """Whether an entry is on this disk."""
        return seq <= self.entries.get(replica, 0)
