"""What a store of logs must offer to replication, and one that lives in memory."""

from collections.abc import Mapping
from heapq import merge
from typing import Protocol

from replication.entry import hash_of

Page = list[tuple[str, int, bytes]]
"""Sealed entries with their dots: replica, number, bytes."""


class LogStore(Protocol):
    """The logs that a node holds, its own among them."""

    def page(self, held: Mapping[str, int], known: Mapping[str, int], limit_entries: int, limit_bytes: int) -> Page:
        """What somebody who has `known` lacks of `held` (which this store holds), in the order of application.

        As many entries as the limits allow, and at least one if anything is lacking. That order is causal: a reader
        who has all the rest that they had seen can apply each as it comes.
        """
        ...

    def sealed(self, replica: str, seq: int) -> bytes | None:
        """The bytes of an entry by its dot."""
        ...


class MemoryLog:
    """A store in memory, in order of application.

    Relations kept: the n-th of ``_logs[replica]`` is the replica's entry number n+1, with its place in the order in
    which the entries of all logs were added.
    """

    def __init__(self) -> None:
        self._logs: dict[str, list[tuple[int, str, int, bytes]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, replica: str, seq: int, sealed: bytes) -> None:
        """Hold the next entry of a log."""
        log = self._logs.setdefault(replica, [])
        assert seq == len(log) + 1, f"{replica} {seq} behind {len(log)}"
        log.append((self._count, replica, seq, sealed))
        self._count += 1

    def page(self, held: Mapping[str, int], known: Mapping[str, int], limit_entries: int, limit_bytes: int) -> Page:
        """As `LogStore.page`."""
        stretches = [
            self._logs[replica][known.get(replica, 0) : count]
            for replica, count in held.items()
            if replica in self._logs
        ]
        page: Page = []
        size = 0
        for _, replica, seq, sealed in merge(*stretches):
            size += len(sealed)
            if page and (size > limit_bytes or len(page) >= limit_entries):
                break
            page.append((replica, seq, sealed))
        return page

    def sealed(self, replica: str, seq: int) -> bytes | None:
        """As `LogStore.sealed`."""
        log = self._logs.get(replica, [])
        return log[seq - 1][3] if 0 < seq <= len(log) else None

    def hash(self, replica: str, seq: int) -> bytes | None:
        """The hash of an entry by its dot."""
        sealed = self.sealed(replica, seq)
        return None if sealed is None else hash_of(sealed)
