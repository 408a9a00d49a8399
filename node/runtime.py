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
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Final, TypeVar

import structlog

from ledger.command import AcknowledgeConflict, Command
from ledger.ids import Key, TenantId
from ledger.refusal import Refusal
from node.acknowledging import acknowledge
from node.api.facade import Asked, NothingDone, Unavailable
from node.applying import Applied, apply
from node.audit import AuditResult, audit
from node.book import LedgerBook
from node.clock import WallClock
from node.committer import Committer, Storage
from node.condition import ClusterState, Lag, cluster_state, gauges, lags
from node.config import NodeConfig
from node.history import Overtaken
from node.links import Links
from node.metrics import Gauges, Metrics
from node.reconcile import Reconciliation, reconcile
from node.region import Accepted, Received, Region
from node.snapshots import ScheduledJob
from node.store.errors import DamagedEntry, StorageError
from replication.clock import VectorClock, descends, encode_token, essential, merge
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
                    self.metrics.observe(self._gauges(self.wall_ms()))
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
        elif (book := self.region.books.in_memory.get(tenant)) is not None:
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
            book = self.region.books.existing(tenant, self.wall_ms())
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
        return lags(self.region, self.links, self.wall_ms())

    def promises(self) -> dict[str, int]:
        """By region, this one too: the hybrid clock reading up to which it has promised that nothing more comes."""
        return dict(self.links.frontier.counted)

    async def cluster(self, with_digest: bool) -> ClusterState:
        """The cluster as this node sees it, all of it durable."""
        return await self.read_all(
            lambda region, now: cluster_state(region, self.links, self._findings, now, with_digest)
        )

    def set_link(self, peer: str, cut: bool) -> None:
        """Cut the link to a peer at this end, in both directions, or open it again."""
        self.links.set_cut(peer, cut, self.wall_ms())
        self.on_link_set(peer)

    def _gauges(self, now: int) -> Gauges:
        return gauges(self.region, self.links, self._findings, self.committer.queue_depth, self._started_at, now)


def _waits_for(damage: DamagedEntry | str) -> str:
    return f"{damage}; it is being fetched from the peers again: ask later, or ask another region"


def _nothing(*_: object) -> None:
    """Before the peers are there, nobody needs to be told."""
