"""A node of the simulation: a real region with its links and journal, and a host that does what production's loop does.

The host seals the region's open batch whenever the disk is free, answers when what an answer depends on has landed,
pushes what is fresh a moment later, and ticks. When the store fails, it stops.
"""

from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from msgspec import Struct

from ledger.command import AcknowledgeConflict, Command
from ledger.ids import Key, Position, TenantId
from ledger.refusal import Refusal
from node.acknowledging import acknowledge
from node.alarms import AlarmKind
from node.applying import Gone, apply
from node.audit import AuditResult, audit
from node.finding import Finding
from node.links import Links
from node.rebuild import Writes, mark, opened
from node.reconcile import Reconciliation, reconcile
from node.region import Accepted, Region
from node.settings import RegionSettings
from node.snapshots import ScheduledJob
from node.store.errors import DamagedEntry, StorageError
from node.store.kv import Table, Write, verified
from node.store.rows import number_of
from replication.codec import Frame, FrameError, decode, encode
from replication.filed import Filed
from replication.gossip import Close, Session
from tests.simulation.clock import WallClock
from tests.simulation.disk import SimulatedDisk
from tests.simulation.facts import Facts
from tests.simulation.network import Network
from tests.simulation.scenario import Fault, Intent
from tests.simulation.scheduler import Action, Scheduler
from tests.simulation.trace import Trace
from tests.simulation.watch import Broken, Watch


class Unavailable(Struct, frozen=True):
    """The node takes no requests now."""

    why: str


Answer = Accepted | Refusal | Gone | Unavailable
_ALL: Final = 2**30
THE_END: Final = Position(2**63, "", "", 0)
"""Behind every entry."""
_PUSH_DELAY_MS: Final = 2
_RESTART_TICKS: Final = 5

Reply = Callable[[Answer], None]


class FuseBlownError(Exception):
    """The process is gone."""


def fused(write: Writes, fuse: int) -> Writes:
    """The same for so many times; then the process is gone."""
    left = iter(range(fuse))

    def write_or_be_gone(batch: list[Write]) -> None:
        if next(left, None) is None:
            raise FuseBlownError
        write(batch)

    return write_or_be_gone


class Flight(Struct):
    """A batch on its way to the disk."""

    batch: list[Write]
    commits: dict[bytes, list[tuple[str, int]]]
    written: list[Action]


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
        self._written: list[Action] = []

    # -- life -------------------------------------------------------------------------------------------------------

    @property
    def is_awake(self) -> bool:
        """Whether a process runs and is not paused."""
        return self.region is not None and not self.is_paused

    def now(self) -> int:
        """What the node takes for the time."""
        return self.clock.read(self._scheduler.now)

    def start(self, fuse: int | None = None) -> None:
        """Start a process on the disk as it is; with a `fuse` it does not live to see its first commit.

        It is gone after so many writes of a rebuild, or when it has read all there is.
        """
        assert self.region is None
        self._incarnation += 1
        boot = self.boot()
        self.note(f"starts as {boot}")
        write = self.disk.rows.write if fuse is None else fused(self.disk.rows.write, fuse)
        try:
            region = opened(self.disk, write, self.settings, boot, self.now())
        except FuseBlownError:
            self.note("is gone in the middle of a rebuild")
            self.count("rebuild cut off")
            self._watch.rebuilt(self)
            return
        except StorageError as error:
            raise Broken(f"{self.name} cannot start: {error}") from error
        if fuse is not None:
            self.note("is gone before it has done anything")
            if region.alarms.count(AlarmKind.REBUILT):
                self._watch.rebuilt(self)
            return
        self.region = region
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
        self._held, self.waiting, self._fresh, self._written = [], [], [], []
        self._joined.clear()
        self._network.gone(self.name)

    def leave(self) -> None:
        """The process is told to stop: it says goodbye, and what it has accepted comes to the disk and is answered."""
        assert self.links is not None
        self.links.stop(self.now())
        self.send_out()
        while self.region is not None and (self._flight is not None or self._take_off()):
            self._landed()
        self.stop("it was told to stop", flight_lands=True)

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
        self._watch.asked(self, tenant, command, key, now)
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
        self._answer_when_durable(tenant, answer, reply)

    def _answer_when_durable(self, tenant: TenantId, answer: Accepted | Refusal | Gone, reply: Reply) -> None:
        assert self.region is not None
        if isinstance(answer, Accepted):
            commit = answer.filed.commit
        else:
            book = self.region.books.in_memory.get(tenant)
            commit = 0 if book is None else book.last_commit
        clock = dict(self.region.clock)
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

    def put_jobs(self, source: str, jobs: dict[TenantId, list[ScheduledJob]]) -> None:
        """A scheduler says what it knows of its jobs, now."""

        def take() -> None:
            region = self.region
            assert region is not None
            at = region.present(self.now())
            try:
                region.take_snapshot(source, at, jobs)
            except StorageError as error:
                self._fail(error)
            else:
                self.count("snapshot taken")
                self._written.append(lambda: self._watch.snapshot_landed(self, source, at))
                self._kick()

        self._later(0, take)

    def findings(self, tenant: TenantId | None, now: int) -> list[Finding]:
        """All that a run finds."""
        assert self.region is not None
        result = Reconciliation(tenant, limit=_ALL)
        for _ in reconcile(self.region, now, result):
            pass
        return result.found

    def settle(self, tenant: TenantId, choose: Callable[[list[Finding]], str | None], reply: Reply) -> None:
        """Somebody looks at what does not add up, and asks to settle one of it, or something else."""

        def look_and_settle() -> None:
            assert self.region is not None
            if self.is_low_on_disk:
                reply(Unavailable("low on disk"))
                return
            now = self.now()
            try:
                found = self.findings(tenant, now)
                name = choose(found)
                if name is None:
                    return
                finding = next((each for each in found if each.id == name), None)
                self._watch.settling(self, tenant, name, finding, now)
                answer = apply(self.region, tenant, name, finding, now)
                self._watch.settled(self, tenant, name, finding, answer, now)
            except DamagedEntry as error:
                self.count("refused: damaged entry")
                reply(Unavailable(str(error)))
            except StorageError as error:
                self._fail(error)
            else:
                self._answer_when_durable(tenant, answer, reply)

        self._later(0, look_and_settle)

    def acknowledge(self, intent: Intent, count: Callable[[str], None]) -> None:
        """An operator looks at the newest conflicts, and says that one of them was seen to, or names another."""

        def look_and_say() -> None:
            region, now = self.region, self.now()
            assert region is not None
            try:
                shown = [
                    report.id for report in islice(region.conflicts.reports(None, THE_END, now), 1 + intent.tenant % 4)
                ]
                named = [f"{self.name}.b001.1.overspend", *shown][-1 - intent.choice % (len(shown) + 1)]
                said = AcknowledgeConflict(named, f"op{intent.other % 2}", None if intent.amount % 3 else "seen to")
                answer = acknowledge(region, said, Key(f"k{intent.other % 7}"), now)
                self._watch.conflict_acknowledged(self, said, answer)
            except DamagedEntry:
                self.count("refused: damaged entry")
            except StorageError as error:
                self._fail(error)
            else:
                if isinstance(answer, Accepted):
                    count(f"acknowledged {'before' if answer.replayed else 'now'}")
                    self.when_durable(answer.filed.commit, lambda: self._watch.answers(self, answer))

        self._later(0, look_and_say)

    def read(self, tenant: TenantId, reply: Callable[[Any], None]) -> None:
        """A client asks for a balance."""

        def render() -> None:
            assert self.region is not None
            try:
                book = self.region.books.existing(tenant, self.now())
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
        if self._flight is None and self._take_off():
            self._later(self._disk_ms, self._landed)

    def _take_off(self) -> bool:
        """Seal what is to be written, if anything is."""
        assert self.region is not None
        batch = self.region.seal()
        if batch:
            # A commit that is only written again, because it was damaged, brings no new entries.
            keys = [key for table, key, _ in batch if table is Table.LOG and number_of(key) in self._joined]
            commits = {key: self._joined.pop(number_of(key)) for key in keys}
            self._flight, self._written = Flight(batch, commits, self._written), []
        return bool(batch)

    def _landed(self) -> None:
        region, flight = self.region, self._flight
        assert region is not None
        assert flight is not None
        if self.fails_next is not None:
            self.count(f"fault: {Fault.DISK_FULL}")
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
        for action in [*flight.written, *ready]:
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

    def hear(self, session: Session, frame: Frame) -> None:
        """A frame comes in, at once."""
        self._receive(session, encode(frame))

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
        if len(self.region.books.in_memory) < len(self.facts.by_tenant):
            self.count("book dropped from memory")
        self._later(self._tick_ms, self._tick)
