"""One region as a state machine: pure, synchronous, the same under real disks and sockets and under simulated ones.

Everything that decides is here and in the packages below; whoever hosts a region owns time, the disk and the network:

    submit(command)     a client's command: judged, folded, joined to the open batch; the reply waits for `landed`
    receive(page)       entries of other logs, each applied when all that it had seen has been applied
    tick(now)           what is due by itself: lapses, settlements, expiries, compensations, checkpoints
    seal()              the open batch, as writes for the disk
    landed()            the oldest sealed batch is durable: its entries may be shown

The region never lets anybody see an entry that is not durable. Memory holds what is not stable yet and what was touched
lately; the rest is on disk (see `node.book` and `node.store.journal`).
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct, structs

from conflict.detect import Kind
from conflict.report import report_id
from ledger.admission import admit, admit_transfer
from ledger.cells import NOTHING, Effect, KeyUse
from ledger.claim import ClaimState
from ledger.command import Command, GrantCredit, TransferCredit, fingerprint
from ledger.ids import ClaimId, Key, Position, TenantId
from ledger.operation import (
    Compensation,
    Content,
    Grant,
    Move,
    Operation,
    Transfer,
)
from ledger.posting import Postings
from ledger.refusal import Reason, Refusal, invalid, not_found
from ledger.rules import Rules
from node.alarms import AlarmKind, Alarms
from node.book import LedgerBook
from node.books import Books
from node.changes import Changes
from node.checkpoints import Checkpoints
from node.compensating import Compensating
from node.conflicts import Conflicts
from node.counts import Counts
from node.duties import Duties
from node.escrow import Wish, Wishes, parts_of, wanted_when_low
from node.forgetting import Forgetting
from node.lowwater import LowWater, copy_of
from node.mending import Mender
from node.settings import RegionSettings
from node.snapshots import MAX_SOURCES, ScheduledJob, Snapshots, Source
from node.store.aside import Aside
from node.store.errors import DamagedEntry, DamagedRows, ForeignDirectory
from node.store.journal import Journal, filed_of
from node.store.kv import Overlay, Table, Write
from node.store.rows import (
    CEILING,
    CEILING_AGAIN,
    LOW,
    RULES_KEY,
    decode_low,
    decode_number,
    decode_rules,
    pack,
    read,
    tenant_of,
)
from replication.clock import Dot, Hlc, VectorClock, hlc_at, ms_of
from replication.codec import Ranges
from replication.delivery import Delivered, Delivery
from replication.entry import VERSION, Entry, EntryError, LogHead, Malformed, hash_of, seal
from replication.filed import Filed, legs_of

_CEILING_AHEAD_MS: Final = 2_000
"""A boot begins its clock at the ceiling that it finds, so this is how far ahead of its peers it may be at first."""


class Accepted(Struct, frozen=True, gc=False):
    """A command that stands: its entry, and whether the entry is an earlier one that had the same key."""

    filed: Filed
    replayed: bool


class Received(Struct, frozen=True):
    """What became of a snapshot of a scheduler."""

    taken: bool
    """False: a later one was there already, and stays."""
    source: Source
    """The one that stands now; of an empty one nothing is kept."""
    unknown: list[TenantId]
    """The tenants in it that do not exist here."""


Done = list[tuple[LedgerBook, Effect]]
"""What an entry did, account by account: in one, or in the giver's and the receiver's."""


class _InFlight(Struct, frozen=True, gc=False):
    """What becomes true when a sealed batch lands."""

    commit: int
    clock: VectorClock
    hlc: int
    ceiling: int


class Region:
    """The state of one region's node. Times are in ms; `now` is the host's wall clock.

    Relations kept: ``clock`` counts every entry applied, ``durable`` every entry landed.
    """

    def __init__(self, settings: RegionSettings, overlay: Overlay, boot: str, now: int) -> None:
        self.settings = settings
        self.boot = boot
        self.replica = f"{settings.region}/{boot}"
        self.alarms = Alarms()
        self.counts = Counts({})
        self.journal = Journal(overlay)
        self.snapshots = Snapshots(overlay)
        self.frontier = -1
        self._overlay = overlay
        self._in_flight: deque[_InFlight] = deque()
        self._late: dict[TenantId, LedgerBook] = {}
        weights = settings.weights or tuple((name, 1) for name in settings.regions)
        self._terms = structs.replace(settings.terms, region=settings.region, weights=weights)
        self._wishes = Wishes(settings.region, settings.anti_entropy_interval_ms)
        self._forgetting = Forgetting(overlay, settings.rules.key_lifetime_ms)
        self.mending = Mender(
            self.journal, self.alarms, lambda: self.durable, self._in_memory, settings.anti_entropy_interval_ms
        )
        heads, behind = self._read_logs()
        self.delivery = Delivery(
            self.replica,
            heads.values(),
            self.journal,
            window_entries=settings.window_entries,
            max_clock_drift_ms=settings.max_clock_drift_ms,
        )
        self.durable: VectorClock = dict(self.clock)
        changes = Changes()
        self.books = Books(settings.rules, overlay, self.journal, self.clock, changes)
        self.duties = Duties(settings, overlay, self.books, self.counts, self._sweep)
        self.compensating = Compensating(
            settings, self.books, self.duties, self.alarms, self.counts, self._compensate, self._sweep
        )
        self.conflicts = Conflicts(overlay, self.journal, self.books, changes, self.compensating.unsettled)
        self._take_up(behind, now)
        self.aside = Aside(overlay, settings.region, settings.peers)
        for replica, first in self.aside.logs().items():
            waits = f"; those from {first} on are here and wait" if first else ""
            detail = f"entries from {self.clock.get(replica, 0) + 1} on were lost here{waits}"
            self.alarms.raise_(AlarmKind.DAMAGED, replica, detail, now)
        stored = overlay.get(Table.META, CEILING)
        ceiling = 0 if stored is None else read(decode_number, Table.META, CEILING, stored)
        self.hlc = Hlc(ceiling)
        for head in heads.values():
            self.hlc.observe(head.hlc)
        self._ceiling_written = ceiling
        self._promised = -1

    # -- starting from disk -----------------------------------------------------------------------------------------

    def _read_logs(self) -> tuple[dict[str, LogHead], list[list[tuple[Filed, bytes]]]]:
        """The heads of all logs, and the entries behind the low-water commit, commit by commit, with their hashes."""
        stored = self._overlay.get(Table.META, RULES_KEY)
        refuse_other_rules(stored, self.settings.rules)
        if stored is None:
            self._overlay.put(Table.META, RULES_KEY, pack(str(self.settings.rules)))
        low = self._overlay.get(Table.META, LOW)
        low_water = LowWater(*((0, ()) if low is None else read(decode_low, Table.META, LOW, low)))
        if low_water.commit >= self.journal.next_commit:
            raise DamagedRows(f"the journal ends before commit {low_water.commit}, up to which the rows go")
        self._checkpoints = Checkpoints(low_water)
        heads = low_water.heads()
        behind = []
        for commit, runs in self.journal.replay(low_water.commit):
            entries = [filed for run in runs for filed in filed_of(run, commit)]
            for filed, digest in entries:
                replica = filed.entry.replica
                try:
                    heads.setdefault(replica, LogHead(replica)).extend(filed.entry, digest)
                except EntryError as error:
                    raise DamagedRows(
                        f"commit {commit} of the journal does not follow those before it: {error}"
                    ) from None
            behind.append(entries)
        for replica, head in heads.items():
            if self.journal.last_seq(replica) != head.seq:
                raise DamagedRows(f"the journal's index does not end with {replica}:{head.seq}")
        return heads, behind

    def _take_up(self, behind: list[list[tuple[Filed, bytes]]], now: int) -> None:
        """File again what is not checkpointed, and find the tenants whose books are not settled."""
        for key, _ in self._overlay.rows(Table.UNSETTLED):
            book = self.books.of(TenantId(tenant_of(key)), now)
            book.quiet_since = book.unsettled_since = now
            self.compensating.unsettled[book.tenant] = book
        for entries in behind:
            advanced: dict[str, LogHead] = {}
            for filed, digest in entries:
                entry = filed.entry
                advanced[entry.replica] = LogHead(entry.replica, entry.seq, digest, entry.hlc, filed.others)
                for leg in legs_of(filed):
                    book = self.books.of(leg.tenant, now)
                    if not book.holds(leg.position):
                        self._file(book, leg, now)
                        self._write_anew()
            if entries:
                self._checkpoints.low.closed(entries[0][0].commit, advanced)

    # -- clients ----------------------------------------------------------------------------------------------------

    def submit(self, tenant: TenantId, command: Command, key: Key, now: int) -> Accepted | Refusal:
        """Judge a command; if it stands, its entry is in the open batch and counts from here on."""
        book = self.books.of(tenant, now)
        request = fingerprint(command)
        use = book.account.remembered(key, self.present(now))
        if use is not None:
            if use.request != request:
                detail = "the idempotency key was used for another request; take a new key for a new request"
                return Refusal(Reason.IDEMPOTENCY_MISMATCH, detail, {"key": key})
            return self._accepted_before(use)
        if not book.exists and not isinstance(command, GrantCredit):
            return _no_such_tenant(tenant)
        operation = self._judge(book, command, key, now)
        if isinstance(operation, Refusal):
            return operation
        try:
            return Accepted(self._append(book, operation, key, request, now), replayed=False)
        except Malformed:
            return invalid("amount", "is spread over too many lots for one entry; ask for less at a time")

    def accepted_under(self, tenant: TenantId, key: Key, now: int) -> Accepted | None:
        """What a tenant's key was used for first, whatever that was, while the key is remembered."""
        use = self.books.of(tenant, now).account.remembered(key, self.present(now))
        return None if use is None else self._accepted_before(use)

    def _accepted_before(self, use: KeyUse) -> Accepted:
        filed = self.journal.find(use.replica, use.seq)
        assert filed is not None, f"a key names {use.replica}:{use.seq}, which the journal lacks"
        return Accepted(filed, replayed=True)

    def take_snapshot(self, name: str, at: int, jobs: Mapping[TenantId, Sequence[ScheduledJob]]) -> Received | Refusal:
        """Put what the scheduler `name` says of its jobs at `at` (ms) in the place of what it said before."""
        if jobs and not self.snapshots.has_room_for(name):
            return invalid("source", f"would be one more than the {MAX_SOURCES} that a node keeps")
        taken = self.snapshots.replace(name, at, jobs)
        unknown = sorted(tenant for tenant in jobs if not self.books.knows(tenant))
        return Received(taken, self.snapshots.source(name) or Source(name, at, 0), unknown)

    def _judge(self, book: LedgerBook, command: Command, key: Key, now: int) -> Operation | Refusal:
        tenant, present = book.tenant, self.present(now)
        if isinstance(command, TransferCredit):
            if command.to == tenant:
                return invalid("to", "must be another tenant")
            receiver = self.books.of(command.to, now)
            if not receiver.exists:
                return _no_such_tenant(command.to)
            operation: Operation | Refusal = admit_transfer(
                book.account, receiver.account, tenant, command, key, present, self.settings.region
            )
        else:
            operation = admit(book.account, tenant, command, key, present, self._terms)
        if isinstance(operation, Refusal):
            if operation.reason is Reason.RESERVATION_ENDED:
                return _with_conflict(operation, book)
            if operation.fields.get("elsewhere"):
                self._wishes.want(tenant, int(operation.fields["requested"] or 0))
        return operation

    @property
    def clock(self) -> VectorClock:
        """How many entries of each log are applied, durable or not."""
        return self.delivery.clock

    def tenants_at_work(self) -> Iterator[TenantId]:
        """By name, every tenant of which anything is open: a reservation, a debt, a job, the books, or what is recent.

        And those that a snapshot names, whether or not they exist.
        """
        return self.books.at_work(sorted(self._checkpoints.unstable), self.snapshots.tenants())

    def present(self, now: int) -> int:
        """What the next entry will take for the present: the wall clock, or the clock of peers that are ahead."""
        return max(now, ms_of(self.hlc.latest))

    def lost(self, peer: str, offered: VectorClock, now: int) -> Ranges:
        """Entries that are to be fetched again from a peer (see `node.mending`)."""
        return self.mending.question(peer, offered, now)

    def _in_memory(self, commits: set[int]) -> Iterator[tuple[Entry, bytes]]:
        """The entries of some commits that are not checkpointed yet."""
        for filed in self._checkpoints.waiting_in(commits):
            yield filed.entry, seal(filed.entry)

    # -- entries of this node ---------------------------------------------------------------------------------------

    def _append(self, book: LedgerBook, operation: Operation, key: Key | None, request: str | None, now: int) -> Filed:
        """Fold an operation in as the newest of all and record what it did."""
        place = self._next_place(now)
        done = [(book, book.account.accept(operation, place, key, request))]
        if isinstance(operation, Transfer):
            receiver = self.books.of(operation.to, now)
            done.append((receiver, receiver.account.accept(operation.grant, place, None, None)))
        try:
            filed = self._stamp(done, place, operation, key, request)
        except Malformed:
            for concerned, effect in done:
                concerned.account.undo(effect)
            raise
        for (concerned, _), leg in zip(done, legs_of(filed), strict=True):
            self.duties.watch(concerned, leg)
        if key is not None and book.account.is_escrowed:
            # A client has spent, perhaps. Who has given credit away does not ask for it back.
            low = wanted_when_low(book.account, self.settings.region, len(self.settings.regions), self.present(now))
            if low:
                self._wishes.want(book.tenant, low)
        return filed

    def _sweep(self, book: LedgerBook, operation: Operation, now: int) -> bool:
        """Post an operation that nobody asked for; an alarm, and nothing else, if its entry would be too long."""
        try:
            self._append(book, operation, None, None, now)
        except Malformed as error:
            self.alarms.raise_(AlarmKind.TOO_LONG, book.tenant, f"cannot post {operation}: {error}", now)
            return False
        return True

    def remark(self, book: LedgerBook, content: Content, key: Key, request: str, now: int) -> Filed:
        """Post what somebody says of another entry; it does nothing to the account."""
        return self._stamp([(book, NOTHING)], self._next_place(now), content, key, request)

    def _compensate(self, book: LedgerBook, effect: Effect, compensation: Compensation, now: int) -> Filed:
        return self._stamp([(book, effect)], self._next_place(now), compensation, None, None)

    def _next_place(self, now: int) -> Position:
        return Position(self.hlc.tick(now), self.settings.region, self.boot, self.delivery.own_head.seq + 1)

    def _stamp(self, done: Done, place: Position, content: Content, key: Key | None, request: str | None) -> Filed:
        """Make the next entry of the own log, and join it to the open batch. Raises `Malformed` if it is too long."""
        delivery = self.delivery
        book, effect = done[0]
        received: Postings | None = done[1][1].postings if len(done) > 1 else None
        entry = Entry(
            VERSION, self.replica, place.seq, place.hlc, delivery.news, book.tenant, key, request, content,
            effect.postings, effect.outcome, effect.result, received, delivery.own_head.hash,
        )  # fmt: skip
        sealed = seal(entry)
        others = delivery.append(entry, hash_of(sealed))
        filed = Filed(entry, place, others, self.journal.next_commit)
        self.journal.add(filed, sealed)
        for (concerned, did), leg in zip(done, legs_of(filed), strict=True):
            concerned.append(leg, did)
            self._count_unchecked(concerned, leg)
        return filed

    def _count_unchecked(self, book: LedgerBook, filed: Filed) -> None:
        if filed.position > book.stable_until:
            self._checkpoints.joined(book)
        self.books.changed(book)
        self.conflicts.stir(book)

    # -- entries of other logs --------------------------------------------------------------------------------------

    def receive(self, page: list[bytes], now: int, sender: str = "") -> int:
        """Take in sealed entries of other logs from the region `sender`; returns how many were no entries at all."""
        if self.mending.damaged:
            page = self.mending.take(page, sender, now)
        delivered = self.delivery.receive(page, now)
        self._apply(delivered, now, sender)
        return sum(not alarm.subject for alarm in delivered.alarms)

    def _apply(self, delivered: Delivered, now: int, sender: str = "") -> None:
        for alarm in delivered.alarms:
            self.alarms.raise_(AlarmKind(alarm.kind), alarm.subject or sender, alarm.detail, now)
        for entry, sealed, others in delivered.arrivals:
            self.hlc.observe(entry.hlc)
            filed = Filed(entry, entry.position, others, self.journal.next_commit)
            self.journal.add(filed, sealed)
            for leg in legs_of(filed):
                self._file(self.books.of(leg.tenant, now), leg, now)
        self._write_anew()

    def _write_anew(self) -> None:
        """Bring the rows of tenants up to date that were begun again, before anything else is written."""
        for book in self._late.values():
            book.write_anew()
        self._late = {}

    def _file(self, book: LedgerBook, filed: Filed, now: int) -> None:
        if filed.position <= book.stable_until:
            self.alarms.raise_(
                AlarmKind.LATE, filed.entry.replica, f"tenant {book.tenant} was folded anew from its beginning", now
            )
        book.insert(filed, now)
        if book.late_until is not None:
            self._late[book.tenant] = book
        self.compensating.unsettled[book.tenant] = book
        self._count_unchecked(book, filed)
        if filed.position.region == self.settings.region or isinstance(filed.entry.content, Grant):
            self.duties.watch(book, filed)

    # -- what is due by itself --------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """Do what is due at `now`; what is left over waits for the next tick."""
        self.mending.look(now)
        if self.aside:
            self._take_back(now)
        self._retry(now)
        self.duties.look(now, self.frontier >> 16)
        if not self.may_have_posted:
            self.compensating.look(now, self.present(now))
        self.conflicts.look()
        self._checkpoints.advance(min(self.frontier, (now - self.settings.checkpoint_after_ms) << 16))
        self.books.forget_idle(now, self.settings.tenants_in_memory, but=self.compensating.unsettled)
        self.counts.forgotten += self._forgetting.look(now, self._earliest_to_come)
        self._raise_ceiling(now)

    def _retry(self, now: int) -> None:
        """Apply what waited for our clock; that it still waits has been said."""
        delivered = self.delivery.retry(now)
        delivered.alarms = [alarm for alarm in delivered.alarms if alarm.kind.value != AlarmKind.CLOCK_AHEAD.value]
        self._apply(delivered, now)

    def _take_back(self, now: int) -> None:
        """Take in what a salvage has put aside, as far as what was missing before it is there again."""
        settings = self.settings
        page = self.aside.next(self.clock, settings.page_entries, now, settings.anti_entropy_interval_ms)
        if page:
            self._apply(self.delivery.receive(page, now), now)
        for replica in self.aside.settle(self.durable):
            detail = f"all {self.clock[replica]} entries that were known to be are here again"
            self.alarms.amend(AlarmKind.DAMAGED, replica, detail)

    @property
    def may_have_posted(self) -> bool:
        """Whether compensations of an earlier boot may still come back from a peer: until then none is posted."""
        return bool(self.aside) and self.aside.holds_back(self.clock, self.clock)

    def amend(self, tenant: TenantId, loser: Dot, now: int) -> Filed | None:
        """Post now the compensation that this region owes for one operation (see `Compensating.amend`)."""
        return None if self.may_have_posted else self.compensating.amend(tenant, loser, now)

    # -- credit of tenants under escrow -----------------------------------------------------------------------------

    def take_wishes(self, linked: Collection[str], now: int) -> list[Wish]:
        """Whom of the `linked` peers to ask for credit, now."""
        if not self._wishes or not linked:
            return []
        wishes: list[Wish] = []
        for tenant in self._wishes.due(now):
            try:
                account = self.books.of(tenant, now).account
            except DamagedEntry:
                continue  # the wish stays, for when it is mended
            wishes += self._wishes.take(tenant, account, linked, self.present(now), now)
        return wishes

    def give(self, tenant: TenantId, to: str, amount: int, now: int) -> None:
        """A peer asks for credit of a tenant under escrow: move what there is of it."""
        book = self.books.existing(tenant, now)
        if book is None or not book.account.is_escrowed:
            return
        for lot, part in parts_of(book.account, self.settings.region, amount, self.present(now)):
            if self._sweep(book, Move(lot, to, part), now):
                self.counts.moved += 1

    # -- checkpoints and memory -------------------------------------------------------------------------------------

    def _earliest_to_come(self, tenant: TenantId) -> int:
        """When (ms) the first operation of a tenant is that may still be folded, or folded again."""
        book = self.books.in_memory.get(tenant)
        unstable = book.timeline.first_place if book is not None else None
        return min(self.frontier >> 16, unstable.now) if unstable is not None else self.frontier >> 16

    # -- the disk ---------------------------------------------------------------------------------------------------

    def seal(self) -> list[Write]:
        """What is to be written now, as one atomic batch; empty if nothing is."""
        commit = self.journal.next_commit - 1
        if self.journal.open_count:
            advanced = {replica: copy_of(self.delivery.heads[replica]) for replica in self.journal.open_replicas()}
            commit = self.journal.close_commit()
            self._checkpoints.low.closed(commit, advanced)
        low = self._checkpoints.low.row()
        if low is not None:
            self._overlay.put(Table.META, LOW, low)
        batch = self._overlay.seal()
        if batch:
            self._in_flight.append(_InFlight(commit, dict(self.clock), self.hlc.latest, self._ceiling_written))
        return batch

    def landed(self) -> list[bytes]:
        """The oldest sealed batch is on disk. Returns this node's own entries in it, sealed, for the peers."""
        self._overlay.landed()
        landed = self._in_flight.popleft()
        fresh: list[bytes] = []
        if landed.commit > self.journal.durable_commit:
            self.journal.durable_commit = landed.commit
            fresh = [
                sealed
                for run in self.journal.runs(landed.commit)
                if run.replica == self.replica
                for sealed in run.entries
            ]
        self.durable = landed.clock
        self.hlc.raise_ceiling(landed.ceiling)
        if not self._may_be_missed:
            self._promised = max(self._promised, min(landed.hlc, self.hlc.ceiling))
        return fresh

    @property
    def _may_be_missed(self) -> bool:
        """Whether a peer may hold an entry of this region that this node has lost: then nothing more is promised."""
        return bool(self.aside) and self.aside.holds_back(self.durable, self.clock)

    def promise(self, now: int) -> int:
        """A clock reading up to which everything that this region ever accepts is in `durable`.

        Whatever is stamped from here on reads higher; after a crash too, because the ceiling is on disk. The clock goes
        on also while something is on its way there, so that what is sealed next can promise that when it lands.
        """
        reading = self.hlc.promise(now)
        if not self._in_flight and not self.journal.open_count and not self._may_be_missed:
            self._promised = max(self._promised, reading)
        return self._promised

    def _raise_ceiling(self, now: int) -> None:
        """Keep the ceiling on disk well above what may soon be promised."""
        ahead_ms = min(_CEILING_AHEAD_MS, self.settings.max_clock_drift_ms // 2)
        if ms_of(self._ceiling_written) < now + ahead_ms // 2:
            self._ceiling_written = hlc_at(now + ahead_ms)
            for key in (CEILING, CEILING_AGAIN):
                self._overlay.put(Table.META, key, pack(self._ceiling_written))

    @property
    def unsettled_count(self) -> int:
        """How many tenants' books this region may still have to put right."""
        return len(self.compensating.unsettled)


def refuse_other_rules(stored: bytes | None, rules: Rules) -> None:
    """Raise ForeignDirectory if a store was written under other rules than the configured ones."""
    if stored is not None and (found := read(decode_rules, Table.META, RULES_KEY, stored)) != str(rules):
        raise ForeignDirectory(
            f"the directory was written under the rules «{found}» of the ledger, this node has «{rules}»;"
            " put the configuration right, or start with an empty directory: what the peers hold comes back from them"
        )


def _no_such_tenant(tenant: TenantId) -> Refusal:
    return not_found("tenant", tenant, "; a tenant begins with its first grant")


def _with_conflict(refusal: Refusal, book: LedgerBook) -> Refusal:
    """Say which conflict it was that made a reservation void."""
    claim = book.account.claim(ClaimId(str(refusal.fields["reservation"])))
    if claim is None or claim.state is not ClaimState.REVOKED:
        return refusal
    conflict = report_id(claim.made, Kind.REVOKED)
    return Refusal(
        refusal.reason,
        f"the reservation is void: its credit was spent elsewhere first, see the conflict {conflict}",
        {**refusal.fields, "conflict": conflict},
    )
