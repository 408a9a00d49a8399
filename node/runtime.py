"""The loop around a region: clocks, the writer thread, group commit, sweeps.

One asyncio loop decides, one thread writes. While a batch is being made durable the next one fills, so batches grow
with load and an idle node answers after one flush. A reply leaves, and peers hear of an entry, only after the commit
that holds it.

Any unexplained storage error is the end of the process, and so is anything unexpected while state is being changed, for
then nobody knows what it is worth: the node refuses everything from then on, says why, and exits; what was acknowledged
is on disk.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import islice
from typing import Final, Protocol, TypeVar

import structlog
from msgspec import Struct

from ledger.command import AcknowledgeConflict, Command
from ledger.ids import Key, TenantId
from ledger.refusal import Refusal
from node.acknowledging import acknowledge
from node.alarms import Alarm, AlarmKind
from node.api.facade import Asked, NothingDone, Unavailable
from node.applying import Applied, apply
from node.audit import AuditResult, audit
from node.book import LedgerBook
from node.clock import WallClock
from node.config import NodeConfig
from node.history import Overtaken
from node.links import Links
from node.metrics import Gauges, Metrics
from node.reconcile import Reconciliation, reconcile
from node.region import Accepted, Received, Region
from node.snapshots import ScheduledJob
from node.store.errors import DamagedEntry, StorageError
from node.store.kv import Write
from replication.clock import VectorClock, descends, encode_token, essential, lacking_count, merge, ms_of
from replication.entry import open_sealed
from replication.filed import Filed

TICK_SECONDS: Final = 0.02
_FREE_CHECK_SECONDS: Final = 1.0
_JUDGED_AT_ONCE: Final = 100
_STEPS_AT_ONCE: Final = 200
_EXPORTED_AT_ONCE: Final = 200
_EXPORTED_BYTES_AT_ONCE: Final = 256 * 1024

T = TypeVar("T")
Decided = TypeVar("Decided", bound=Applied)

log = structlog.get_logger()


class Lag(Struct, frozen=True):
    """How far this node may be behind a peer."""

    entries: int
    heard_ms_ago: int | None


class PeerState(Struct, frozen=True, kw_only=True):
    """A peer region as this node sees it."""

    region: str
    linked: bool
    cut: bool
    heard_ms_ago: int | None
    missing_here: int
    missing_there: int
    promise: int | None


class ClusterState(Struct, frozen=True, kw_only=True):
    """The cluster as this node sees it."""

    clock: VectorClock
    digest: str | None
    unsettled_tenants: int
    findings: Mapping[str, int] | None
    peers: list[PeerState]
    frontier: int | None
    held_back_by: str | None
    alarms: list[Alarm]


class Storage(Protocol):
    """What the loop needs of a disk (`node.store.lmdb_disk`)."""

    def commit(self, batch: Sequence[Write], done: Callable[[StorageError | None], None], /) -> None:
        """Make a batch durable, whole or not at all; then call `done`, from whatever thread."""
        ...

    def free_bytes(self) -> int:
        """How much room there is."""
        ...


class Committer:
    """Group commit: seals the region's open batch whenever the disk is free, and tells who waits.

    Relations kept: at most one batch is at the disk; ``_waiting`` is in the order in which requests came, so that one
    that waits for an older commit than those before it may wait a commit longer. ``_writing`` wait for the batch that
    is open, ``_landing`` for the one at the disk.
    """

    def __init__(self, region: Region, disk: Storage, metrics: Metrics) -> None:
        self._region = region
        self._disk = disk
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._busy = False
        self._kicked = False
        self._is_held = False
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._writing: list[asyncio.Future[None]] = []
        self._landing: list[asyncio.Future[None]] = []
        self._begun_at = 0.0
        self.failure: asyncio.Future[Exception] = self._loop.create_future()
        self._idle = asyncio.Event()
        self._idle.set()
        self.on_durable: Callable[[list[bytes]], None] = lambda _: None

    @property
    def queue_depth(self) -> int:
        """How many requests wait for a commit."""
        return len(self._waiting)

    async def durable(self, commit: int) -> None:
        """Return when the commit is on disk. Raises `Unavailable` if that will not happen."""
        if commit <= self._region.journal.durable_commit:
            return
        if self.failure.done():
            raise Unavailable(str(self.failure.result()))
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((commit, future))
        self.kick()
        await future

    async def written(self) -> None:
        """Return when all rows that have been written by now are on disk. Raises `Unavailable` if that will not be."""
        if self.failure.done():
            raise Unavailable(str(self.failure.result()))
        future: asyncio.Future[None] = self._loop.create_future()
        self._writing.append(future)
        self.kick()
        await future

    async def idle(self) -> None:
        """Return when nothing is at the disk."""
        await self._idle.wait()

    def kick(self) -> None:
        """Commit what there is, after whatever else is ready to run has joined the batch."""
        if not self._kicked and not self._busy and not self._is_held:
            self._kicked = True
            self._loop.call_soon(self._commit)

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        """Let nothing go to the disk meanwhile, so that all that joins the open batch lands in one commit."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            self.kick()

    def fail(self, error: Exception) -> None:
        """Stop for good: nobody is told anything but why."""
        if self.failure.done():
            return
        if not isinstance(error, StorageError):
            log.critical("broken", region=self._region.settings.region, exc_info=error)
        self.failure.set_result(error)
        for future in [*self._writing, *self._landing, *(future for _, future in self._waiting)]:
            if not future.done():
                future.set_exception(Unavailable(str(error)))
        self._waiting.clear()

    def _commit(self) -> None:
        self._kicked = False
        if self._busy or self._is_held or self.failure.done():
            return
        count = self._region.journal.open_count
        try:
            batch = self._region.seal()
            self._landing, self._writing = self._writing, []
            if not batch:
                _wake(self._landing)
                return
            self._busy = True
            self._idle.clear()
            self._begun_at = time.perf_counter()
            self._disk.commit(batch, self._done)
            if count:
                self._metrics.batch_sealed(count)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the end
            self.fail(error)

    def _done(self, error: StorageError | None) -> None:
        """Called in the writer thread."""
        self._loop.call_soon_threadsafe(self._landed, error)

    def _landed(self, error: StorageError | None) -> None:
        self._busy = False
        self._idle.set()
        if error is not None:
            self.fail(error)
            return
        self._metrics.commit_landed(time.perf_counter() - self._begun_at)
        fresh = self._region.landed()
        durable = self._region.journal.durable_commit
        _wake(self._landing)
        waiting = self._waiting
        while waiting and waiting[0][0] <= durable:
            _, future = waiting.popleft()
            if not future.done():
                future.set_result(None)
        self.on_durable(fresh)
        self.kick()


class Node:
    """One region's running node: what the HTTP routes call.

    Relations kept: nothing that a caller gets to see depends on an entry that is not durable.
    """

    def __init__(self, config: NodeConfig, region: Region, disk: Storage, clock: WallClock) -> None:
        self.config = config
        self.region = region
        self.clock = clock
        self.wall_ms = clock.now_ms
        self.metrics = Metrics()
        self.name = region.settings.region
        self.replica = region.replica
        self.committer = Committer(region, disk, self.metrics)
        self.links = Links(region)
        self.on_outgoing: Callable[[], None] = _nothing
        self.on_link_set: Callable[[str], None] = _nothing
        self._disk = disk
        self._started_at = self.wall_ms()
        self._low_on_disk = False
        self._moved = asyncio.Event()
        self._fresh: list[bytes] = []
        self._is_push_due = False
        self._is_ending = False
        self._damage_told = (0, 0)
        self._batching = asyncio.Lock()
        self._findings: dict[str, int] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.committer.on_durable = self._became_durable

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to sweep, and to reconcile."""
        self._tasks.append(asyncio.create_task(self._tick_for_ever()))
        if self.config.reconciliation.interval_ms:
            self._tasks.append(asyncio.create_task(self._reconcile_for_ever()))

    def end_streams(self) -> None:
        """Let whoever is told of what happens come to an end, before the server waits for them."""
        self._is_ending = True
        self._wake_all()

    async def stop(self) -> None:
        """Stop sweeping, and bring what is acknowledged or due to the disk."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(Unavailable):
            await self._all_durable()

    async def failed(self) -> Exception:
        """Return, with the reason, when the process must end."""
        return await asyncio.shield(self.committer.failure)

    async def _tick_for_ever(self) -> None:
        checked_at = -_FREE_CHECK_SECONDS
        while not self.committer.failure.done():
            try:
                if time.monotonic() - checked_at >= _FREE_CHECK_SECONDS:
                    checked_at = time.monotonic()
                    self._low_on_disk = self._disk.free_bytes() < self.config.store.min_free_bytes
                    self.metrics.observe(self._gauges())
                    self._tell_of_damage()
                now = self.wall_ms()
                self.region.tick(now)
                self.links.tick(now)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the end
                self.committer.fail(error)
                return
            self.on_outgoing()
            self.committer.kick()
            await asyncio.sleep(TICK_SECONDS)

    async def _reconcile_for_ever(self) -> None:
        while not self.committer.failure.done():
            await asyncio.sleep(self.config.reconciliation.interval_ms / 1000)
            found = Reconciliation()
            try:
                await self.reconcile(found)
            except Unavailable as error:
                log.warning("reconciliation", region=self.name, put_off=str(error))
                continue
            except Exception:
                # Nothing was changed, and nothing else that the node does rests on it.
                log.exception("a reconciliation failed", region=self.name)
                continue
            counts = {kind.value: count for kind, count in found.counts.items()}
            if counts != (self._findings or dict.fromkeys(counts, 0)):
                log.info("reconciliation", region=self.name, **counts)
            self._findings = counts

    def _tell_of_damage(self) -> None:
        """Log that commits of the journal were found damaged, or are whole again."""
        mending = self.region.mending
        damage = mending.damaged, mending.mended
        if damage != self._damage_told:
            self._damage_told = damage
            log.warning("journal", region=self.name, damaged_commits=damage[0], mended_commits=damage[1])

    def _became_durable(self, fresh: list[bytes]) -> None:
        """Something landed: wake who waits for it, and after a moment, in which more may land, tell the peers."""
        self._wake_all()
        self._fresh += fresh
        if not self._is_push_due:
            self._is_push_due = True
            asyncio.get_running_loop().call_later(self.config.timing.push_delay_ms / 1000, self._push)

    def _wake_all(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def _push(self) -> None:
        self._is_push_due = False
        fresh, self._fresh = self._fresh, []
        self.links.push(fresh, self.wall_ms())
        self.links.acknowledge(self.wall_ms())
        self.on_outgoing()

    async def _all_durable(self) -> None:
        journal = self.region.journal
        await self.committer.durable(journal.next_commit if journal.open_count else journal.next_commit - 1)

    # -- writes -----------------------------------------------------------------------------------------------------

    async def submit(self, tenant: TenantId, command: Command, key: Key, wait_ms: int = 0) -> Accepted | Refusal:
        """Judge a command, and return when its entry is durable. Raises `Unavailable`.

        Of a tenant under escrow it waits up to `wait_ms` for credit that lies in the shares of other regions.
        """
        deadline = time.monotonic() + wait_ms / 1000
        while True:
            moved = self._moved
            outcome = self._judge(tenant, command, key)
            rest = deadline - time.monotonic()
            if isinstance(outcome, Accepted) or not outcome.fields.get("elsewhere") or rest <= 0:
                return await self._when_durable(tenant, outcome)
            self.links.ask_around(self.wall_ms())
            self.on_outgoing()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(rest, self.config.timing.anti_entropy_interval_ms / 1000)):
                    await moved.wait()

    async def acknowledge(self, command: AcknowledgeConflict, key: Key) -> Accepted | Refusal:
        """Note that a conflict was seen to, and return when the entry that says so is durable. Raises `Unavailable`."""
        outcome = self._decide(lambda now: acknowledge(self.region, command, key, now))
        if isinstance(outcome, Accepted):
            await self.committer.durable(outcome.filed.commit)
        else:
            await self._all_durable()
        return outcome

    async def apply_finding(self, tenant: TenantId, name: str) -> Applied:
        """Settle a finding, once, and return when the entry that does is durable. Raises `Unavailable`."""
        found = Reconciliation(tenant, lambda finding: finding.id == name)
        await self.reconcile(found)
        finding = next(iter(found.found), None)
        outcome = self._decide(lambda now: apply(self.region, tenant, name, finding, now))
        return await self._when_durable(tenant, outcome)

    async def put_jobs(
        self, source: str, at: int, jobs: Mapping[TenantId, Sequence[ScheduledJob]]
    ) -> Received | Refusal:
        """Take a scheduler's snapshot, and return when it is on disk. Raises `Unavailable`."""
        received = self._decide(lambda _: self.region.take_snapshot(source, at, jobs))
        await self.committer.written()
        return received

    def _judge(self, tenant: TenantId, command: Command, key: Key) -> Accepted | Refusal:
        return self._decide(lambda now: self.region.submit(tenant, command, key, now))

    def _decide(self, decide: Callable[[int], T]) -> T:
        """What the region decides at the time given (ms)."""
        if self.committer.failure.done() or self._low_on_disk:
            raise Unavailable("; ".join(self.not_ready()))
        try:
            return decide(self.wall_ms())
        except DamagedEntry as error:
            raise NothingDone(_waits_for(error)) from None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the end
            raise self._stopped_by(error) from None

    async def _when_durable(self, tenant: TenantId, outcome: Decided) -> Decided:
        if isinstance(outcome, Accepted):
            await self.committer.durable(outcome.filed.commit)
        elif (book := self.region.books.get(tenant)) is not None:
            # A refusal tells of the tenant's state: let none of it be such as a crash could take back.
            await self.committer.durable(book.last_commit)
        return outcome

    async def submit_all(self, asked: Sequence[Asked]) -> list[Accepted | Refusal | NothingDone]:
        """Judge commands one after the other, and return when the one commit that holds them is durable.

        Other requests are served in between; theirs join the same commit. Raises `Unavailable`.
        """
        answers: list[Accepted | Refusal | NothingDone] = []
        # One batch at a time, or batches that overlap could keep the disk waiting for ever.
        async with self._batching, self.committer.holding():
            for number, (tenant, command, key) in enumerate(asked, 1):
                try:
                    answers.append(self._judge(tenant, command, key))
                except NothingDone as nothing:
                    answers.append(nothing)
                if number % _JUDGED_AT_ONCE == 0:
                    await asyncio.sleep(0)
        await self._all_durable()
        return answers

    # -- reads ------------------------------------------------------------------------------------------------------

    async def read(self, tenant: TenantId, render: Callable[[LedgerBook], T]) -> T | None:
        """What `render` makes of a tenant's book, once all that it could see is durable; None for an unknown tenant.

        Rendered first and waited for afterwards: a tenant that is written to all the time never has a moment at which
        nothing is on its way to the disk. Raises `Unavailable`.
        """
        with self._fail_stop():
            book = self.region.existing_book(tenant, self.wall_ms())
            if book is None:
                return None
            rendered = render(book)
        await self.committer.durable(book.last_commit)
        return rendered

    async def read_all(self, render: Callable[[Region, int], T]) -> T:
        """What `render` makes of the region at the time given (ms), once all that it could see is durable."""
        with self._fail_stop():
            rendered = render(self.region, self.wall_ms())
        await self._all_durable()
        return rendered

    async def in_slices(self, steps: Iterator[T]) -> AsyncIterator[T]:
        """What long work yields, some steps at a time, others being served in between. Raises `Unavailable`."""
        while True:
            with self._fail_stop():
                done = list(islice(steps, _STEPS_AT_ONCE))
            for each in done:
                yield each
            if len(done) < _STEPS_AT_ONCE:
                return
            await asyncio.sleep(0)

    @contextmanager
    def _fail_stop(self) -> Iterator[None]:
        try:
            yield
        except DamagedEntry as error:
            raise NothingDone(_waits_for(error)) from None
        except Overtaken:
            raise NothingDone("the tenant's history was written anew while it was read; ask again") from None
        except StorageError as error:
            raise self._stopped_by(error) from None

    def _stopped_by(self, error: Exception) -> Unavailable:
        self.committer.fail(error)
        return Unavailable(f"the node stops: {error}")

    async def caught_up(self, clock: VectorClock, timeout_ms: int) -> bool:
        """Wait until everything that `clock` covers is durable here; False if that takes longer than `timeout_ms`."""
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        while not descends(self.region.durable, clock):
            moved = self._moved
            try:
                async with asyncio.timeout_at(deadline):
                    await moved.wait()
            except TimeoutError:
                return False
        return True

    async def landed(self, after: int, timeout_s: float) -> int | None:
        """Wait until a commit later than `after` is durable, so long at most; the last one that is.

        None as soon as the node is about to stop.
        """
        moved, journal = self._moved, self.region.journal
        if journal.durable_commit <= after and not self._is_ending:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await moved.wait()
        return None if self._is_ending else journal.durable_commit

    def as_of(self) -> str:
        """The clock token of what is applied here: what an answer rendered now takes into account."""
        delivery = self.region.delivery
        return encode_token(essential(delivery.clock, [head.others for head in delivery.heads.values()]))

    def not_ready(self) -> list[str]:
        """Why writes are not taken; empty when they are."""
        reasons = []
        if self.committer.failure.done():
            reasons.append(f"the node stops: {self.committer.failure.result()}")
        if self._low_on_disk:
            reasons.append(
                f"less than {self.config.store.min_free_bytes:,} bytes are free for {self.config.region.data};"
                " make room, or lower store.min_free_bytes"
            )
        return reasons

    async def export(self, after: VectorClock) -> AsyncIterator[tuple[Filed, bytes]]:
        """Every durable entry that `after` does not imply, with its hash, causes before consequences."""
        await self._all_durable()
        journal = self.region.journal
        known = dict(after)
        with self._fail_stop():
            for replica, count in after.items():
                # Whoever has applied an entry has applied all that it had seen; tokens leave that out.
                last = journal.find(replica, count)
                known = known if last is None else merge(known, last.others)
        held = dict(self.region.durable)
        clocks: dict[str, VectorClock] = {}
        while not descends(known, held):
            with self._fail_stop():
                page = journal.page(held, known, _EXPORTED_AT_ONCE, _EXPORTED_BYTES_AT_ONCE)
                for replica, seq, _ in page:
                    if replica not in clocks:
                        found = journal.find(replica, seq)
                        assert found is not None
                        clocks[replica] = found.others
            if not page:
                raise NothingDone(_waits_for("some of the entries that are left cannot be read"))
            for replica, seq, sealed in page:
                entry, digest = open_sealed(sealed)
                if entry.delta:
                    # Of the first entry of a log it changes nothing.
                    clocks[replica] = {**clocks[replica], **entry.delta}
                known[replica] = seq
                yield Filed(entry, entry.position, clocks[replica], 0), digest
            await asyncio.sleep(0)

    async def audit(self) -> AuditResult:
        """Check everything against everything, in slices (see `node.audit`)."""
        await self._all_durable()
        result = AuditResult()
        with self._fail_stop():
            for _ in audit(self.region, self.wall_ms(), result):
                await asyncio.sleep(0)
        return result

    async def reconcile(self, result: Reconciliation) -> None:
        """Look for what does not add up, in slices (see `node.reconcile`), until all that was seen is durable."""
        with self._fail_stop():
            for _ in reconcile(self.region, self.wall_ms(), result):
                await asyncio.sleep(0)
        await self._all_durable()

    # -- the cluster ------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """The time at which a command would be judged, in ms."""
        return self.region.present(self.wall_ms())

    def behind(self) -> dict[str, Lag]:
        """How far this node may be behind each peer."""
        now, clock = self.wall_ms(), self.region.clock
        return {
            name: Lag(lacking_count(clock, peer.has), _ago(peer.heard_at, now))
            for name, peer in self.links.peers.items()
        }

    def promises(self) -> dict[str, int]:
        """By region, this one too: the hybrid clock reading up to which it has promised that nothing more comes."""
        return dict(self.links.frontier.counted)

    async def cluster(self, with_digest: bool) -> ClusterState:
        """The cluster as this node sees it, all of it durable."""
        return await self.read_all(lambda region, now: self._cluster(region, now, with_digest))

    def _cluster(self, region: Region, now: int, with_digest: bool) -> ClusterState:
        clock = dict(region.clock)
        frontier = self.links.frontier
        return ClusterState(
            clock=clock,
            digest=region.digest() if with_digest else None,
            unsettled_tenants=region.unsettled_count,
            findings=self._findings,
            peers=[
                PeerState(
                    region=peer.region,
                    linked=peer.session is not None,
                    cut=peer.is_cut,
                    heard_ms_ago=_ago(peer.heard_at, now),
                    missing_here=lacking_count(clock, peer.has),
                    missing_there=lacking_count(peer.has, clock),
                    promise=peer.promise or None,
                )
                for peer in self.links.peers.values()
            ],
            frontier=frontier.reached or None,
            held_back_by=frontier.holders[0] if self.links.peers else None,
            alarms=region.alarms.all(),
        )

    def set_link(self, peer: str, cut: bool) -> None:
        """Cut the link to a peer at this end, in both directions, or open it again."""
        self.links.set_cut(peer, cut, self.wall_ms())
        self.on_link_set(peer)

    def _gauges(self) -> Gauges:
        now, region = self.wall_ms(), self.region
        peers = self.links.peers.values()
        debts = region.debts()
        return Gauges(
            conflicts=region.counts.conflicts,
            orphaned_holds=region.counts.lapsed,
            forks=region.alarms.count(AlarmKind.FORK),
            damaged_commits=region.mending.damaged,
            mended_commits=region.mending.mended,
            debt_outstanding=sum(debts.values()),
            negative_balances=len(debts),
            findings=self._findings or {},
            replication_lag_entries={peer.region: lacking_count(region.clock, peer.has) for peer in peers},
            replication_silence_seconds={
                peer.region: (now - peer.heard_at) / 1000 for peer in peers if peer.heard_at is not None
            },
            frontier_age_seconds={
                name: max(0, now - (ms_of(promise) or self._started_at)) / 1000
                for name, promise in self.links.frontier.counted.items()
            },
            clock_offset_seconds={
                peer.region: (ms_of(peer.hlc) - peer.heard_at) / 1000 for peer in peers if peer.heard_at and peer.hlc
            },
            queue_depth={"commit": self.committer.queue_depth, "delivery": region.delivery.waiting_count},
        )


def _waits_for(damage: DamagedEntry | str) -> str:
    return f"{damage}; it is being fetched from the peers again: ask later, or ask another region"


def _ago(then: int | None, now: int) -> int | None:
    return None if then is None else max(0, now - then)


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)


def _nothing(*_: object) -> None:
    """Before the peers are there, nobody needs to be told."""
