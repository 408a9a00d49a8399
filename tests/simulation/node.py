"""A node of the simulation: a real region with its links and journal, and a host that does what production's loop does.

The host seals the region's open batch whenever the disk is free, answers when what an answer depends on has landed,
pushes what is fresh a moment later, and ticks. When the store fails, it stops.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from ledger.command import Command
from ledger.ids import Key, TenantId
from ledger.refusal import Refusal
from node.audit import AuditResult, audit
from node.links import Links
from node.rebuild import mark, opened
from node.region import Accepted, Region
from node.settings import RegionSettings
from node.store.errors import DamagedEntry, StorageError
from node.store.kv import Table, Write, verified
from node.store.rows import number_of
from replication.codec import FrameError, decode, encode
from replication.filed import Filed
from replication.gossip import Close, Session
from tests.simulation.clock import WallClock
from tests.simulation.disk import SimulatedDisk
from tests.simulation.facts import Facts
from tests.simulation.network import Network
from tests.simulation.scheduler import Action, Scheduler
from tests.simulation.trace import Trace
from tests.simulation.watch import Broken, Watch


class Unavailable(Struct, frozen=True):
    """The node takes no requests now."""

    why: str


Answer = Accepted | Refusal | Unavailable
_ALL: Final = 2**30
_PUSH_DELAY_MS: Final = 2
_RESTART_TICKS: Final = 5

Reply = Callable[[Answer], None]


class Flight(Struct):
    """A batch on its way to the disk."""

    batch: list[Write]
    commits: dict[bytes, list[tuple[str, int]]]


class SimulatedNode:
    """One region's node, through all its boots.

    Relations kept: ``region`` and ``links`` are those of the running boot, None while no process runs;
    ``_incarnation`` counts boots, so that what an earlier boot arranged comes to nothing.
    """

    def __init__(
        self,
        settings: RegionSettings,
        clock: WallClock,
        scheduler: Scheduler,
        network: Network,
        trace: Trace,
        watch: Watch,
        *,
        tick_ms: int,
        disk_ms: int,
    ) -> None:
        self.name = settings.region
        self.settings = settings
        self.clock = clock
        self.disk = SimulatedDisk()
        self.region: Region | None = None
        self.links: Links | None = None
        self.is_paused = False
        self.is_low_on_disk = False
        self.is_damaged = False
        """Whether what is on its disk was changed behind its back."""
        self.fails_next: bool | None = None
        """Whether the next commit fails, and then whether it is on disk all the same."""
        self.waiting: list[tuple[int, Action]] = []
        """Answers, each with the commit that must land before it is given."""
        self._scheduler = scheduler
        self._network = network
        self._trace = trace
        self._watch = watch
        self._tick_ms = tick_ms
        self._disk_ms = disk_ms
        self._incarnation = 0
        self._held: list[Action] = []
        self._flight: Flight | None = None
        self._is_kicked = False
        self._is_push_due = False
        self._joined: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
        self._fresh: list[bytes] = []

    # -- life -------------------------------------------------------------------------------------------------------

    @property
    def is_awake(self) -> bool:
        """Whether a process runs and is not paused."""
        return self.region is not None and not self.is_paused

    def now(self) -> int:
        """What the node takes for the time."""
        return self.clock.read(self._scheduler.now)

    def start(self) -> None:
        """Start a process on the disk as it is."""
        assert self.region is None
        self._incarnation += 1
        boot = self.boot()
        self.note(f"starts as {boot}")
        try:
            self.region = opened(self.disk, self.disk.rows.write, self.settings, boot, self.now())
        except StorageError as error:
            raise Broken(f"{self.name} cannot start: {error}") from error
        self.links = Links(self.region)
        self._spy_on(self.region)
        self._watch.started(self)
        # What was damaged is no longer there, nor is what stood behind it, unless that comes back.
        self.disk.entries = dict(self.region.clock)
        self._tick()

    def boot(self) -> str:
        """The name of this start of the process: unique, and greater than those before."""
        return f"b{self._incarnation:03d}"

    def stop(self, why: str, *, flight_lands: bool) -> None:
        """The process is gone. Of a batch on its way to the disk all is there, or nothing."""
        if self.region is None:
            return
        self.note(f"is gone: {why}")
        if self._flight is not None and flight_lands:
            self._trace.count("batch survives the crash")
            self.disk.land(self._flight.batch, self._flight.commits)
        elif self._flight is not None:
            self._trace.count("batch lost in the crash")
        self.region = self.links = self._flight = None
        self.is_paused = self._is_kicked = self._is_push_due = False
        self.fails_next = None
        self._held, self.waiting, self._fresh = [], [], []
        self._joined.clear()
        self._network.gone(self.name)

    def pause(self) -> None:
        """The process stands still."""
        self.is_paused = True

    def resume(self) -> None:
        """The process goes on, and finds all at once what came in meanwhile."""
        self.is_paused = False
        held, self._held = self._held, []
        for action in held:
            action()

    @property
    def facts(self) -> Facts:
        """What is true of the run."""
        return self._watch.facts

    def count(self, name: str) -> None:
        """One more of these."""
        self._trace.count(name)

    def note(self, what: str) -> None:
        """Take note of something that happens here."""
        self._trace.note(self._scheduler.now, self.name, what)

    def _mix(self, what: bytes) -> None:
        """Take note of bytes that were applied, landed or sent here."""
        self._trace.mix(self._scheduler.now, self.name, what)

    def _later(self, delay_ms: int, action: Action) -> None:
        """Let this boot do something later; what it misses while it is paused, it does when it goes on."""
        incarnation = self._incarnation

        def act() -> None:
            if incarnation != self._incarnation or self.region is None:
                return
            if self.is_paused:
                self._held.append(act)
            else:
                action()

        self._scheduler.after(delay_ms, act)

    def _spy_on(self, region: Region) -> None:
        add = region.journal.add

        def told(filed: Filed, sealed: bytes) -> None:
            self._joined[filed.commit].append((filed.entry.replica, filed.entry.seq))
            self._mix(sealed)
            self._watch.applied(self, filed, sealed)
            if filed.entry.replica == region.replica:
                self.count(f"posted: {type(filed.entry.content).__name__}")
            add(filed, sealed)

        region.journal.add = told  # type: ignore[method-assign]

    def _fail(self, error: StorageError) -> None:
        """What the store holds is not what was written: stop, and let the next start rebuild it."""
        self._watch.failed(self, error)
        self.count("stopped by a damaged row")
        self.rebuild(str(error))

    def rebuild(self, why: str) -> None:
        """Stop, and let the next start rebuild the store."""
        self.stop(why, flight_lands=True)
        mark(self.disk.rows.write, why)
        self._scheduler.after(_RESTART_TICKS * self._tick_ms, lambda: self.start() if self.region is None else None)

    def scrub(self) -> bool:
        """Read everything that is stored; whether all of it could be read."""
        region, result = self.region, AuditResult()
        assert region is not None
        try:
            for _ in audit(region, self.now(), result):
                pass
            for table in Table:
                for key, stored in self.disk.scan(table, b"", None, _ALL) if table is not Table.LOG else ():
                    verified(table, key, stored)
        except DamagedEntry:
            self.count("damaged entry found")
            return False
        except StorageError as error:
            self._fail(error)
            return False
        if region.mending.damaged:
            self.count("damaged entry found")
            return False
        if not result.ok:
            raise Broken(f"{self.name}: the audit finds {result.findings}")
        return True

    # -- requests ---------------------------------------------------------------------------------------------------

    def submit(self, tenant: TenantId, command: Command, key: Key, reply: Reply) -> None:
        """A client's command arrives."""
        self._later(0, lambda: self._submit(tenant, command, key, reply))

    def _submit(self, tenant: TenantId, command: Command, key: Key, reply: Reply) -> None:
        region = self.region
        assert region is not None
        if self.is_low_on_disk:
            self._trace.count("refused: low disk")
            reply(Unavailable("low on disk"))
            return
        now = self.now()
        try:
            answer = region.submit(tenant, command, key, now)
            self._watch.decided(self, tenant, command, key, answer, now)
        except DamagedEntry as error:
            self.count("refused: damaged entry")
            reply(Unavailable(str(error)))
            return
        except StorageError as error:
            self._fail(error)
            return
        if isinstance(answer, Accepted):
            commit = answer.filed.commit
        else:
            book = region.books.get(tenant)
            commit = 0 if book is None else book.last_commit
        clock = dict(region.clock)
        self.when_durable(commit, lambda: self._answer(tenant, clock, answer, reply))

    def submit_all(self, commands: list[tuple[TenantId, Command, Key]], replies: list[Reply]) -> None:
        """A batch arrives: all of it is judged before anything of it is committed."""

        def each_in_turn() -> None:
            assert self.region is not None
            commit = self.region.journal.next_commit
            for (tenant, command, key), reply in zip(commands, replies, strict=True):
                if self.region is not None:
                    self._submit(tenant, command, key, reply)
            if self.region is not None and self.region.journal.next_commit != commit:
                raise Broken(f"{self.name} spreads a batch over several commits")

        self._later(0, each_in_turn)

    def read(self, tenant: TenantId, reply: Callable[[Any], None]) -> None:
        """A client asks for a balance."""

        def render() -> None:
            assert self.region is not None
            try:
                book = self.region.existing_book(tenant, self.now())
                seen = None if book is None else self._watch.seen(self, book, self.now())
            except DamagedEntry:
                self.count("refused: damaged entry")
            except StorageError as error:
                self._fail(error)
            else:
                clock = dict(self.region.clock)
                commit = 0 if book is None else book.last_commit
                self.when_durable(commit, lambda: self._tell(tenant, clock, seen, reply))

        self._later(0, render)

    def _answer(self, tenant: TenantId, clock: dict[str, int], answer: Answer, reply: Reply) -> None:
        self._watch.answers(self, answer)
        if isinstance(answer, Refusal):
            self._watch.tells(self, tenant, clock)
        reply(answer)

    def _tell(self, tenant: TenantId, clock: dict[str, int], seen: Any, reply: Callable[[Any], None]) -> None:
        self._watch.tells(self, tenant, clock)
        reply(seen)

    def when_durable(self, commit: int, action: Action) -> None:
        """Do something as soon as a commit has landed."""
        assert self.region is not None
        if commit <= self.region.journal.durable_commit:
            action()
        else:
            self.waiting.append((commit, action))
            self._kick()

    # -- the disk ---------------------------------------------------------------------------------------------------

    def _kick(self) -> None:
        if not self._is_kicked and self._flight is None:
            self._is_kicked = True
            self._later(0, self._commit)

    def _commit(self) -> None:
        self._is_kicked = False
        assert self.region is not None
        if self._flight is not None:
            return
        batch = self.region.seal()
        if batch:
            # A commit that is only written again, because it was damaged, brings no new entries.
            keys = [key for table, key, _ in batch if table is Table.LOG and number_of(key) in self._joined]
            self._flight = Flight(batch, {key: self._joined.pop(number_of(key)) for key in keys})
            self._later(self._disk_ms, self._landed)

    def _landed(self) -> None:
        region, flight = self.region, self._flight
        assert region is not None
        assert flight is not None
        if self.fails_next is not None:
            self.stop("the commit failed", flight_lands=self.fails_next)
            return
        self.disk.land(flight.batch, flight.commits)
        self._mix(b"".join(b"%b %b %b" % (table.encode(), key, value or b"") for table, key, value in flight.batch))
        self._flight = None
        fresh = region.landed()
        self._watch.landed(self)
        durable = region.journal.durable_commit
        ready = [action for commit, action in self.waiting if commit <= durable]
        self.waiting = [(commit, action) for commit, action in self.waiting if commit > durable]
        for action in ready:
            action()
        self._fresh += fresh
        if not self._is_push_due:
            self._is_push_due = True
            self._later(_PUSH_DELAY_MS, self._push)
        self._kick()

    # -- links ------------------------------------------------------------------------------------------------------

    def open_session(self) -> Session:
        """A link is up."""
        assert self.links is not None
        return self.links.open(self.now())

    def lost_session(self, session: Session) -> None:
        """A link is down."""
        if self.links is not None:
            self.links.lost(session)

    def receive(self, session: Session, data: bytes) -> None:
        """A frame has come in."""
        self._later(0, lambda: self._receive(session, data))

    def _receive(self, session: Session, data: bytes) -> None:
        assert self.links is not None
        try:
            self.links.receive(session, decode(data), self.now())
        except FrameError as error:
            self._trace.count("frame refused")
            self.links.refuse(session, error, self.now())
        except StorageError as error:
            self._fail(error)
            return
        self._kick()
        self.send_out()

    def _push(self) -> None:
        assert self.links is not None
        self._is_push_due = False
        fresh, self._fresh = self._fresh, []
        self.links.push(fresh, self.now())
        self.links.acknowledge(self.now())
        self.send_out()

    def send_out(self) -> None:
        """Hand the network what the sessions want sent."""
        assert self.links is not None
        for session, item in self.links.take_outgoing():
            if isinstance(item, Close):
                self._trace.count(f"link closed: {item.reason}")
                self.links.lost(session)
                self._network.close(session)
            else:
                self._watch.sends(self, session, item)
                frame = encode(item)
                self._mix(frame)
                self._network.send(session, frame)

    def _tick(self) -> None:
        assert self.region is not None
        assert self.links is not None
        now = self.now()
        try:
            self.region.tick(now)
            self.links.tick(now)
            self.send_out()
            self._kick()
            self._watch.ticked(self)
        except DamagedEntry:
            self.count("damaged entry met by a check")
        except StorageError as error:
            self._fail(error)
            return
        self.region.mending.mended, mended = 0, self.region.mending.mended
        if mended:
            self.count("commit mended")
        if self.region.delivery.waiting_count:
            self.count("entries waited for their causes")
        if len(self.region.books) < len(self.facts.by_tenant):
            self.count("book dropped from memory")
        self._later(self._tick_ms, self._tick)
