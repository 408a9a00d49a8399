"""What schedulers say of their jobs: the last snapshot of each, as it came in at this node.

A snapshot is what one scheduler, the source, knew of its jobs at one time. It is no entry: nothing in the books depends
on it, no other region hears of it, and what a rebuild drops comes again with the next one. A snapshot replaces the one
before it as a whole, in one batch; one that is older than what is there came too late, and changes nothing. An empty
one forgets the source.

Each source has a row that says of when its snapshot is, and one for each tenant with the tenant's jobs.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from heapq import merge
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec
from msgspec import Struct

from ledger.ids import ClaimId, JobId, TenantId
from node.store.kv import Overlay, Row, Table
from node.store.rows import after_prefix, encode_value, read

MAX_SOURCES: Final = 100
_ROWS_AT_ONCE: Final = 500


class JobState(StrEnum):
    """Where a job is in its life, to its scheduler."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"


class ScheduledJob(Struct, frozen=True, gc=False, array_like=True):
    """A job in a snapshot. Times in ms, by the scheduler's clock; None: the scheduler does not say."""

    job: JobId
    state: JobState
    started_at: int | None = None
    ended_at: int | None = None
    reservation: ClaimId | None = None
    gpu_type: str | None = None
    gpus: int | None = None
    priority: str | None = None


class Told(Struct, frozen=True, gc=False):
    """What was said of a job last: by whom, of when (ms), and what."""

    source: str
    at: int
    job: ScheduledJob


class Source(Struct, frozen=True, gc=False, array_like=True):
    """One scheduler: its name, of when its snapshot is (ms), and of how many jobs."""

    name: str
    at: int
    jobs: int


_decode_source = msgspec.msgpack.Decoder(Source).decode
_decode_jobs = msgspec.msgpack.Decoder(list[ScheduledJob]).decode


class Snapshots:
    """The snapshots of one node.

    Relation kept: ``_sources`` are those that have a row.
    """

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._sources: dict[str, Source] = {}
        start = b""
        while rows := overlay.scan(Table.SNAPSHOTS, start, None, 1):
            ((key, value),) = rows
            source = read(_decode_source, Table.SNAPSHOTS, key, value)
            self._sources[source.name] = source
            start = after_prefix(_key(source.name))

    def sources(self) -> list[Source]:
        """All schedulers that have said anything, by name."""
        return [self._sources[name] for name in sorted(self._sources)]

    def source(self, name: str) -> Source | None:
        """One of them."""
        return self._sources.get(name)

    def has_room_for(self, name: str) -> bool:
        """Whether a snapshot of this source can be taken: it is known, or there are few others."""
        return name in self._sources or len(self._sources) < MAX_SOURCES

    def replace(self, name: str, at: int, jobs: Mapping[TenantId, Sequence[ScheduledJob]]) -> bool:
        """Put a snapshot in the place of the one before it; False if that one is later.

        No job may stand there twice, and there must be room for the source.
        """
        assert not jobs or self.has_room_for(name)
        known = self._sources.get(name)
        if known is not None and known.at > at:
            return False
        fresh = {_key(name, tenant): encode_value(sorted(told, key=attrgetter("job"))) for tenant, told in jobs.items()}
        for key, value in self._rows_of(name):
            if fresh.get(key) == value:
                del fresh[key]  # most of it is as it was: that is not written again
            elif key not in fresh:
                self._overlay.delete(Table.SNAPSHOTS, key)
        for key, value in fresh.items():
            self._overlay.put(Table.SNAPSHOTS, key, value)
        if jobs:
            source = self._sources[name] = Source(name, at, sum(map(len, jobs.values())))
            self._overlay.put(Table.SNAPSHOTS, _key(name), encode_value(source))
        else:
            self._sources.pop(name, None)
            self._overlay.delete(Table.SNAPSHOTS, _key(name))
        return True

    def of(self, tenant: TenantId) -> dict[JobId, Told]:
        """What was said of a tenant's jobs; if by several sources of the same job, by the one that spoke last."""
        told: dict[JobId, Told] = {}
        for source in sorted(self._sources.values(), key=attrgetter("at", "name")):
            key = _key(source.name, tenant)
            row = self._overlay.get(Table.SNAPSHOTS, key)
            if row is not None:
                for job in read(_decode_jobs, Table.SNAPSHOTS, key, row):
                    told[job.job] = Told(source.name, source.at, job)
        return told

    def tenants(self) -> Iterator[TenantId]:
        """Every tenant that a snapshot names, by name."""
        for tenant, _ in groupby(merge(*map(self._tenants_of, sorted(self._sources)))):
            yield tenant

    def _tenants_of(self, name: str) -> Iterator[TenantId]:
        skipped = len(_key(name))
        for key, _ in self._rows_of(name):
            yield TenantId(key[skipped:].decode())

    def _rows_of(self, name: str) -> Iterator[Row]:
        """The rows of a source's tenants."""
        start, stop = _key(name) + b"\0", after_prefix(_key(name))
        while rows := self._overlay.scan(Table.SNAPSHOTS, start, stop, _ROWS_AT_ONCE):
            yield from rows
            start = rows[-1][0] + b"\0"


def _key(source: str, tenant: str = "") -> bytes:
    """The row of a tenant in a source's snapshot; without one, that of the source, with which all others begin."""
    return f"{source}\0{tenant}".encode()
