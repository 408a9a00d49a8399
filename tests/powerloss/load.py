"""A real region on a real store, with a peer in memory, under a load that uses every table; all of it recorded.

Everything that a region does is in it: all commands of clients, entries that come from a peer, conflicts and their
compensations, checkpoints that move rows from table to table and so free pages for use again, restarts, values of
several pages, and a map that starts small and grows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import Any, Final
from unittest.mock import patch

import lmdb

from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    ReportHeartbeat,
    ReportUsage,
    Reserve,
    RevokeLot,
    SetPolicy,
)
from ledger.ids import ClaimId, JobId, LotId, TenantId
from node.snapshots import JobState, ScheduledJob
from node.store.errors import StorageError
from node.store.kv import MemoryDisk, Row, Table, Write
from node.store.lmdb_disk import LmdbDisk
from tests.powerloss.recording import Recording, Step
from tests.world import World

HERE, PEER = "us", "eu"
CLUSTER: Final = "test"
TENANTS: Final = tuple(TenantId(f"tenant-{n}") for n in range(4))
SMALL_MAP_BYTES: Final = 64 * 4096
HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Issued:
    """The store was given its n-th batch."""

    batch: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The store called `done` with None for its n-th batch."""

    batch: int


@dataclass(frozen=True, slots=True)
class Promised:
    """The region may have told its peers that whatever it stamps from here on reads higher."""

    hlc: int


@dataclass(slots=True)
class History:
    """What is in the store after each batch, table by table, row by row: `after[n]` names it after n batches."""

    tables: dict[Table, dict[bytes, bytes]] = field(default_factory=lambda: {table: {} for table in Table})
    after: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.after.append(self.fingerprint())

    def add(self, batch: Iterable[Write]) -> int:
        """One more batch; returns its number."""
        for table, key, value in batch:
            if value is None:
                self.tables[table].pop(key, None)
            else:
                self.tables[table][key] = value
        self.after.append(self.fingerprint())
        return len(self.after) - 1

    def fingerprint(self) -> bytes:
        """A name for everything in the tables."""
        return fingerprint({table: sorted(rows.items()) for table, rows in self.tables.items()})


def fingerprint(tables: Mapping[Table, Sequence[Row]]) -> bytes:
    """A name for what is in all tables, but for the rows that say whose store it is."""
    name = blake2b(digest_size=16)
    for table in Table:
        rows = [row for row in tables[table] if not row[0].startswith(b"store/")]
        name.update(repr((table.value, rows)).encode())
    return name.digest()


class StoredDisk(MemoryDisk):
    """In the place of a world's disk in memory: a real store, which tells the recording what it was given and said."""

    def __init__(self, path: Path, recording: Recording, history: History) -> None:
        super().__init__()
        self._path = path
        self._recording = recording
        self._history = history
        self.open()

    def open(self) -> None:
        """Open the store, once more."""
        self.store = LmdbDisk(self._path, cluster=CLUSTER, region=HERE, map_bytes=SMALL_MAP_BYTES)

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value, or None."""
        return self.store.get(table, key)

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int, reverse: bool = False) -> list[Row]:
        """The first `limit` rows of [start, stop), or the last ones, greatest first."""
        return self.store.scan(table, start, stop, limit, reverse)

    def write(self, batch: Iterable[Write]) -> None:
        """Give the store a batch and wait for what it says."""
        writes = list(batch)
        number = self._history.add(writes)
        said: SimpleQueue[StorageError | None] = SimpleQueue()

        def done(error: StorageError | None) -> None:
            if error is None:
                self._recording.note(Acknowledged(number))
            said.put(error)

        self._recording.note(Issued(number))
        self.store.commit(writes, done)
        if (error := said.get()) is not None:
            raise error


@dataclass(frozen=True, slots=True)
class Recorded:
    """A load that was run: below which directory, what the store did, and what was in it after each batch."""

    root: Path
    store: Path
    steps: list[Step]
    history: History


def run(root: Path, seed: int, batches: int, **flags: bool) -> Recorded:
    """Run a load in a store below `root`, for so many batches. `flags` open LMDB otherwise than production does."""
    root.mkdir(parents=True, exist_ok=True)
    root = root.resolve()
    path = root / "var" / HERE
    recording, history = Recording(), History()
    with recording.of(root), _opened_with(flags):
        disk = StoredDisk(path, recording, history)
        load = _Load(_StoredWorld(disk), disk, recording, seed)
        while len(history.after) <= batches:
            load.round()
        disk.store.close()
    return Recorded(root, path, recording.steps, history)


@contextmanager
def _opened_with(flags: Mapping[str, bool]) -> Iterator[None]:
    real: Callable[..., lmdb.Environment] = lmdb.open

    def opened(*arguments: Any, **options: Any) -> lmdb.Environment:
        return real(*arguments, **(options if options.get("readonly") else {**options, **flags}))

    with patch.object(lmdb, "open", opened):
        yield


class _StoredWorld(World):
    """Two regions, of which one is on the store."""

    def __init__(self, disk: StoredDisk) -> None:
        self._stored = disk
        super().__init__((HERE, PEER), settle_after_ms=50, settle_at_most_ms=500)

    def _boot(self, name: str, disk: MemoryDisk) -> None:
        super()._boot(name, self._stored if name == HERE else disk)


class _Load:
    """Clients of both regions, a link that comes and goes, and a process that is restarted now and then."""

    def __init__(self, world: World, disk: StoredDisk, recording: Recording, seed: int) -> None:
        self._world = world
        self._disk = disk
        self._recording = recording
        self._random = Random(seed)
        self._keys = 0
        self._lots: list[LotId] = []
        self._claims: list[ClaimId] = []

    def round(self) -> None:
        """A few requests, a batch, a little time."""
        random, world = self._random, self._world
        for _ in range(random.randint(1, 6)):
            self._ask(random.choice((HERE, HERE, PEER)))
        if random.random() < 0.05:
            for _ in range(80):
                self._ask(HERE)
        if random.random() < 0.1:
            self._tell_of_jobs()
        self._land()
        world.pass_time(random.choice((1, 20, 200)))
        if random.random() < 0.15:
            world.set_cut(HERE, PEER, random.random() < 0.5)
        for name in world.names:
            world.tick(name)
            self._land()
        while world.wire and random.random() < 0.9:
            world.deliver(random.randint(1, 4))
            self._land()
        if random.random() < 0.04:
            self._disk.store.close()
            self._disk.open()
            world.crash(HERE)

    def _land(self) -> None:
        for name in self._world.names:
            self._world.land(name)
        self._recording.note(Promised(self._world.region(HERE).promise(self._world.now)))

    def _tell_of_jobs(self) -> None:
        """A scheduler says what it knows of its jobs; some of it is as it was, some has gone."""
        random = self._random
        jobs = [ScheduledJob(JobId(f"job-{number}"), random.choice(list(JobState))) for number in range(40)]
        tenants = random.sample(TENANTS, random.randint(1, len(TENANTS)))
        self._world.region(HERE).take_snapshot("scheduler", self._world.now, dict.fromkeys(tenants, jobs))

    def _ask(self, region: str) -> None:
        self._keys += 1
        self._world.pass_time(1)
        self._world.submit(region, self._command(), f"key-{self._keys}", self._random.choice(TENANTS))

    def _command(self) -> Command:
        random = self._random
        lot = random.choice(self._lots or [LotId("none")])
        claim = random.choice(self._claims[-30:] or [ClaimId("none")])
        amount = random.randint(1, random.choice((50, 50, 50, 250)))
        match random.choice("ggrrrrccndfvhup"):
            case "g":
                self._lots.append(LotId(f"lot-{self._keys}"))
                until = self._world.now + random.choice((300, HOUR_MS))
                return GrantCredit(random.randint(50, 300), until, lot=self._lots[-1])
            case "r":
                self._claims.append(ClaimId(f"claim-{self._keys}"))
                job = JobId("j" * random.choice((3, 200)))
                return Reserve(amount, random.choice((100, 60_000)), self._claims[-1], job)
            case "c":
                return CaptureUsage(claim, amount, final=random.random() < 0.5)
            case "n":
                return RenewLease(claim, 60_000)
            case "d":
                self._claims.append(ClaimId(f"debit-{self._keys}"))
                return DebitUsage(amount, debit=self._claims[-1], on_shortage=OnShortage.DEBT)
            case "f":
                return RefundUsage(claim, amount)
            case "v" if random.random() < 0.2:
                return RevokeLot(lot)
            case "h":
                return ReportHeartbeat(JobId("jjj"))
            case "u":
                now = self._world.now
                return ReportUsage(JobId(f"job-{self._keys}"), now, now - 5, amount, final=random.random() < 0.5)
            case "p":
                return SetPolicy(max_held=random.choice((None, 10_000)))
        return ReleaseHold(claim)
