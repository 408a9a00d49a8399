"""Rebuilding a store of which some rows are damaged: the state is folded again from all entries that are whole.

A node that meets a damaged row stops, and leaves a mark; its next start, or one that meets damage itself, comes here:

    1. what must not be forgotten is noted beside the mark: how far the rows went, how far each log
    2. every row that can be worked out is deleted, and the snapshots of schedulers, which come again
    3. the journal is made whole (`node.store.salvage`): what stands behind a gap is put aside
    4. the entries are folded, a chunk of commits at a time, and checkpointed as far as the rows went before
    5. in one batch the low-water commit is written, and the mark taken away

Until then the mark stands: whatever cuts the work off, the next start begins it again. What a chunk leaves in memory is
what the running node once had in memory: entries later than others that were still to come.

How far to checkpoint: the rows went up to a place only because nothing could come before it any more, so that much is
stable now as well, but for what is lost itself: it may come back. So the checkpoint stops where the first log with a
gap stops.

The ceiling is kept in two rows, because nothing else says what has been promised. If both are lost it is set as far
ahead of the clock as it may ever have been, which is right unless the clock was set back meanwhile.

Pure: the same for a disk in memory.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from ledger.ids import TenantId
from ledger.rules import Rules
from node.alarms import AlarmKind
from node.book import LedgerBook
from node.lowwater import low_row
from node.region import Region, refuse_other_rules
from node.settings import RegionSettings
from node.store.errors import DamagedRow, DamagedRows
from node.store.journal import Journal, filed_of, stretch_of
from node.store.kv import Disk, Overlay, Table, Write, checked, verified
from node.store.rows import (
    CEILING,
    CEILING_AGAIN,
    LOST,
    LOW,
    REBUILD,
    RULES_KEY,
    decode_counts,
    decode_low,
    decode_number,
    decode_state,
    pack,
    read,
    replica_of,
    seq_of,
)
from node.store.salvage import Salvage, Salvaged, all_rows, readable
from replication.clock import VectorClock, hlc_at, merge
from replication.entry import LogHead
from replication.filed import legs_of

_DROPPED: Final = (
    Table.DOTS,
    Table.STATES,
    Table.LOTS,
    Table.OPEN,
    Table.CLOSED,
    Table.KEYS,
    Table.HISTORY,
    Table.RUNNING,
    Table.RESTING,
    Table.POLICIES,
    Table.CONFLICTS,
    Table.CONFLICT_ORDER,
    Table.UNSETTLED,
    Table.SNAPSHOTS,
)
_ROWS_AT_ONCE: Final = 1_000
_STEP: Final = 4_096

Writes = Callable[[list[Write]], None]
"""Makes a batch durable before it returns."""

Progress = Callable[[str], None]
"""Takes a sentence about how far the work is."""


class Plan(Struct, array_like=True):
    """What a rebuild must not forget, as it stands in the mark: None where it has not been looked up yet."""

    reason: str
    stable: int | None = None
    """The greatest clock reading of a checkpointed entry."""
    ends: dict[str, int] | None = None
    """The number of the last entry that each log is known to have had."""


_decode_plan = msgspec.msgpack.Decoder(Plan).decode


def mark(write: Writes, reason: str) -> None:
    """Let the next start rebuild the store."""
    write([(Table.META, REBUILD, checked(Table.META, REBUILD, msgspec.msgpack.encode(Plan(reason))))])


def opened(
    disk: Disk, write: Writes, settings: RegionSettings, boot: str, now: int, progress: Progress = lambda _: None
) -> Region:
    """The region that a disk holds, rebuilt first if it is marked or if damage is met. Raises StorageError."""
    plan = _marked(disk)
    if plan is None:
        try:
            return Region(settings, Overlay(disk), boot, now)
        except DamagedRows as error:
            plan = Plan(str(error))
    rebuild = Rebuild(disk, write, plan, settings.rules, progress)
    rebuild.run(now, settings.max_clock_drift_ms)
    region = Region(settings, Overlay(disk), boot, now)
    region.alarms.raise_(AlarmKind.REBUILT, settings.region, f"{plan.reason}; {rebuild.outcome}", now)
    return region


def _marked(disk: Disk) -> Plan | None:
    stored = disk.get(Table.META, REBUILD)
    if stored is None:
        return None
    try:
        return read(_decode_plan, Table.META, REBUILD, verified(Table.META, REBUILD, stored))
    except DamagedRow as error:
        return Plan(str(error))


class Rebuild:
    """One rebuild of one store."""

    def __init__(self, disk: Disk, write: Writes, plan: Plan, rules: Rules, progress: Progress) -> None:
        self._disk = disk
        self._write = write
        self._plan = plan
        self._rules = rules
        self._progress = progress
        self._overlay = Overlay(disk)
        self.outcome = ""
        """What has come of it, for people."""

    def run(self, now: int, max_clock_drift_ms: int) -> None:
        """Do it all. Raises what `write` raises; then it can be run again."""
        self._progress(f"rebuilding the store: {self._plan.reason}")
        refuse_other_rules(self._meta(RULES_KEY), self._rules)
        self._note()
        self._clear()
        salvaged = self._salvage()
        stable = self._stable(salvaged)
        low, heads = self._fold(salvaged, stable, now)
        self._finish(salvaged, low, heads, now + max_clock_drift_ms // 2)
        self._progress(f"rebuilt: {self.outcome}")

    def _flush(self) -> None:
        batch = self._overlay.seal()
        if batch:
            self._write(batch)
            self._overlay.landed()

    # -- before anything is deleted ---------------------------------------------------------------------------------

    def _note(self) -> None:
        plan = self._plan
        if plan.stable is None or plan.ends is None:
            plan.stable, plan.ends = self._checkpointed(), self._known_ends()
            self._overlay.put(Table.META, REBUILD, msgspec.msgpack.encode(plan))
            self._flush()

    def _checkpointed(self) -> int:
        stable = -1
        for rows in all_rows(self._disk, Table.STATES, _ROWS_AT_ONCE):
            for key, stored in rows:
                row = readable(Table.STATES, key, stored)
                if row is not None:
                    stable = max(stable, read(decode_state, Table.STATES, key, row).place.hlc)
        return stable

    def _known_ends(self) -> dict[str, int]:
        ends: dict[str, int] = {}
        low = self._meta(LOW)
        if low is not None:
            ends = {head.replica: head.seq for head in read(decode_low, Table.META, LOW, low)[1]}
        lost = self._meta(LOST)
        if lost is not None:
            ends = merge(ends, read(decode_counts, Table.META, LOST, lost))
        for rows in all_rows(self._disk, Table.DOTS, _ROWS_AT_ONCE):
            for key, stored in rows:
                row = readable(Table.DOTS, key, stored)
                if row is not None:
                    ends[replica_of(key)] = max(ends.get(replica_of(key), 0), stretch_of(key, row).last_seq)
        for rows in all_rows(self._disk, Table.ASIDE, _ROWS_AT_ONCE):
            for key, stored in rows:
                if readable(Table.ASIDE, key, stored) is not None:
                    ends[replica_of(key)] = max(ends.get(replica_of(key), 0), seq_of(key))
        return ends

    def _meta(self, key: bytes) -> bytes | None:
        stored = self._disk.get(Table.META, key)
        return None if stored is None else readable(Table.META, key, stored)

    # -- the work ---------------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        for table in _DROPPED:
            for rows in all_rows(self._disk, table, _ROWS_AT_ONCE):
                for key, _ in rows:
                    self._overlay.delete(table, key)
                self._flush()

    def _salvage(self) -> Salvaged:
        salvage = Salvage(self._disk, self._overlay)
        for commit in salvage.commits():
            self._flush()
            self._progress(f"read the journal up to commit {commit:,}")
        for _ in salvage.put_aside_again():
            self._flush()
        return salvage.result

    def _lost(self, salvaged: Salvaged) -> VectorClock:
        """How far the logs went that are shorter now."""
        heads = salvaged.heads
        ends = self._plan.ends or {}
        return {log: end for log, end in ends.items() if log not in heads or heads[log].seq < end}

    def _stable(self, salvaged: Salvaged) -> int:
        assert self._plan.stable is not None
        heads = salvaged.heads
        gaps = [heads[log].hlc if log in heads else -1 for log in salvaged.gaps.union(self._lost(salvaged))]
        return min([self._plan.stable, *gaps])

    def _fold(self, salvaged: Salvaged, stable: int, now: int) -> tuple[int, dict[str, LogHead]]:
        """Write the rows of everything up to `stable`; returns the low-water commit, and the heads there."""
        journal = Journal(self._overlay)
        clock = {replica: head.seq for replica, head in salvaged.heads.items() if head.seq}
        bounds = _later_than(salvaged)
        books: dict[TenantId, LedgerBook] = {}
        low, heads, is_low = 0, dict[str, LogHead](), True
        chunks = iter(zip(salvaged.chunks, bounds, strict=True))
        chunk, bound = next(chunks, (None, 0))
        for commit, runs in journal.replay(0):
            filed = [each for run in runs for each in filed_of(run, commit)]
            is_low = is_low and all(each.position.hlc <= stable for each, _ in filed)
            for each, digest in filed:
                if is_low:
                    heads.setdefault(each.entry.replica, LogHead(each.entry.replica)).advance(each.entry, digest)
                for leg in legs_of(each) if each.position.hlc <= stable else ():
                    tenant = leg.tenant
                    if tenant not in books:
                        books[tenant] = LedgerBook(tenant, self._rules, self._overlay, journal, clock)
                    books[tenant].insert(leg, now)
            low = commit if is_low else low
            if chunk is not None and commit == chunk.last_commit:
                self._checkpoint(books, min(stable, bound - 1))
                self._progress(f"folded the journal up to commit {commit:,} of {journal.next_commit - 1:,}")
                chunk, bound = next(chunks, (None, 0))
        return low, heads

    def _checkpoint(self, books: dict[TenantId, LedgerBook], until: int) -> None:
        for tenant, book in list(books.items()):
            while book.checkpoint(until, _STEP):
                pass
            if book.is_idle:
                del books[tenant]
        self._flush()

    def _finish(self, salvaged: Salvaged, low: int, heads: dict[str, LogHead], ahead_ms: int) -> None:
        ceilings = [
            read(decode_number, Table.META, key, row)
            for key in (CEILING, CEILING_AGAIN)
            if (row := self._meta(key)) is not None
        ]
        ceiling = max([salvaged.latest_hlc, *(ceilings or [hlc_at(ahead_ms)])])
        lost = self._lost(salvaged)
        self._overlay.put(Table.META, LOW, low_row(low, heads))
        for key, value in ((RULES_KEY, str(self._rules)), (CEILING, ceiling), (CEILING_AGAIN, ceiling)):
            self._overlay.put(Table.META, key, pack(value))
        if lost:
            self._overlay.put(Table.META, LOST, pack(lost))
        else:
            self._overlay.delete(Table.META, LOST)
        self._overlay.delete(Table.META, REBUILD)
        self._flush()
        self.outcome = (
            f"{salvaged.kept:,} entries are whole and in their places, {salvaged.aside:,} wait for others before them,"
            f" {salvaged.damaged_commits:,} commits of the journal were damaged"
        )


def _later_than(salvaged: Salvaged) -> list[int]:
    """For each chunk, the least clock reading of an entry in those behind it."""
    bounds: list[int] = []
    least = 1 << 63
    for chunk in reversed(salvaged.chunks):
        bounds.append(least)
        least = min(least, chunk.least_hlc)
    return bounds[::-1]
