"""One tenant at this node: the checkpointed past on disk, the entries since then in memory, and its contests.

A tenant's rows on disk say what its stable entries came to; they change only in steps, each of which takes the next few
stable entries out of memory and writes the cells that they changed, together with the place up to which the rows are
true, in one atomic batch. What is not stable yet is in the journal, and is filed again from there after a restart.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from typing import TypeVar

from conflict.contest import Amends, Contest
from conflict.detect import Canonical, canonical_of, differs
from conflict.report import Report, build_report
from conflict.rivals import MAX_RIVALS, RivalIndex, Rivals
from ledger.account import Account
from ledger.cells import DEFAULT_POLICY, NOTHING, Cell, Effect, KeyUse
from ledger.claim import Claim
from ledger.ids import ClaimId, JobId, Key, Position, TenantId
from ledger.job import Job
from ledger.operation import Compensation, Policy, Revoke, Transfer
from ledger.posting import DEBT, TOTALS, Outcome
from ledger.rules import Rules
from ledger.timeline import BEGINNING, Timeline
from node.store.errors import DamagedRows
from node.store.journal import Journal
from node.store.kv import Overlay, Table
from node.store.rows import (
    COMPENSATION,
    DUPLICATE,
    OPERATION,
    REVOCATION,
    VOID,
    State,
    StoredContest,
    after_prefix,
    conflict_key,
    decode_claim,
    decode_contest,
    decode_history,
    decode_job,
    decode_key_use,
    decode_lot,
    decode_place,
    decode_policy,
    decode_state,
    dot_at,
    encode_value,
    history_key,
    job_key,
    pack,
    place_of,
    read,
    tenant_key,
)
from replication.clock import Dot, VectorClock
from replication.filed import Filed, legs_of

_PAGE = 1000
_TENANTS_ROWS = (
    Table.STATES,
    Table.LOTS,
    Table.OPEN,
    Table.CLOSED,
    Table.KEYS,
    Table.RUNNING,
    Table.RESTING,
    Table.POLICIES,
    Table.HISTORY,
    Table.CONFLICTS,
    Table.UNSETTLED,
)
"""What is kept tenant by tenant."""

T = TypeVar("T")


class StoredPast:
    """The checkpointed past of a tenant, looked up row by row."""

    __slots__ = ("_overlay", "_prefix")

    def __init__(self, overlay: Overlay, tenant: TenantId) -> None:
        self._overlay = overlay
        self._prefix = tenant_key(tenant)

    def claim(self, claim: ClaimId) -> Claim | None:
        """A claim that has ended; those that are open or owe are in memory."""
        row = self._overlay.get(Table.CLOSED, key := self._prefix + claim.encode())
        return None if row is None else read(decode_claim, Table.CLOSED, key, row)

    def key_use(self, key: Key) -> KeyUse | None:
        """The operation that used a key first."""
        row = self._overlay.get(Table.KEYS, name := self._prefix + key.encode())
        return None if row is None else read(decode_key_use, Table.KEYS, name, row)

    def job(self, job: JobId) -> Job | None:
        """A job, whether or not its reports say that it runs."""
        name = self._prefix + job_key(job)
        for table in (Table.RUNNING, Table.RESTING):
            row = self._overlay.get(table, name)
            if row is not None:
                return read(decode_job, table, name, row)
        return None


class LedgerBook:
    """The timeline of one tenant above its rows.

    Relations kept: ``contests`` holds every contest of an entry that is in the timeline or that something in the
    timeline concerns, or that is not settled, or that has come to nothing since the books were last put right; the
    CONFLICTS rows hold those of checkpointed entries. ``_stored_totals`` are the totals as the rows have them.
    ``quiet_since`` and ``unsettled_since`` are the times (ms) of the last and the first merge since the own contests
    were last put right, or None. ``_version`` counts merges: what was found out about rivals holds for one version.
    ``_clock`` is the node's own, kept by the region.
    """

    __slots__ = (
        "_clock",
        "_indexes",
        "_journal",
        "_overlay",
        "_stored_totals",
        "_version",
        "contests",
        "digest_counted",
        "entry_count",
        "last_commit",
        "late_until",
        "quiet_since",
        "rules",
        "tenant",
        "timeline",
        "touched_at",
        "unsettled_since",
    )  # fmt: skip

    def __init__(self, tenant: TenantId, rules: Rules, overlay: Overlay, journal: Journal, clock: VectorClock) -> None:
        self.tenant = tenant
        self.rules = rules
        self._overlay = overlay
        self._journal = journal
        self._clock = clock
        self._stored_totals = dict.fromkeys(TOTALS, 0)
        self._version = 0
        self._indexes: tuple[int, int, RivalIndex, RivalIndex] | None = None
        self.contests: dict[Dot, Contest] = {}
        self.entry_count = 0
        self.last_commit = 0
        self.late_until: Position | None = None
        self.touched_at = 0
        self.digest_counted = 0
        self.quiet_since: int | None = None
        self.unsettled_since: int | None = None
        self.timeline: Timeline[Filed] = Timeline(rules)
        state = overlay.get(Table.STATES, tenant_key(tenant))
        if state is not None:
            self._load(state)

    def _load(self, state: bytes) -> None:
        place, totals, self.entry_count = read(decode_state, Table.STATES, tenant_key(self.tenant), state)
        self.timeline = Timeline(self.rules, StoredPast(self._overlay, self.tenant), place)
        self._stored_totals.update(zip(TOTALS, map(int, totals), strict=True))
        self.timeline.account.load(
            self._stored_totals,
            self._stored_policy(),
            self._rows(Table.LOTS, decode_lot),
            self._rows(Table.OPEN, decode_claim),
        )
        for place in self._rows(Table.UNSETTLED, decode_place):
            contest = self.stored_contest(place)
            if contest is not None:
                self.contests[contest.loser.dot] = contest

    def _stored_policy(self) -> Policy:
        prefix = tenant_key(self.tenant)
        rows = self._overlay.scan(Table.POLICIES, prefix, after_prefix(prefix), 1, reverse=True)
        return read(decode_policy, Table.POLICIES, *rows[0]) if rows else DEFAULT_POLICY

    # -- what others ask --------------------------------------------------------------------------------------------

    @property
    def account(self) -> Account:
        """The tenant's canonical state."""
        return self.timeline.account

    @property
    def is_idle(self) -> bool:
        """Whether the rows say all there is, so that the book may be dropped from memory."""
        return not len(self.timeline) and not self.contests

    @property
    def exists(self) -> bool:
        """Whether the tenant has any entry."""
        return self.entry_count > 0

    def ended_claims(self, after: ClaimId | None, limit: int) -> list[Claim]:
        """Checkpointed claims that have ended, by id."""
        prefix = tenant_key(self.tenant)
        start = prefix if after is None else prefix + after.encode() + b"\0"
        rows = self._overlay.scan(Table.CLOSED, start, after_prefix(prefix), limit)
        return [read(decode_claim, Table.CLOSED, key, value) for key, value in rows]

    def running_jobs(self) -> Iterator[Job]:
        """The jobs that run by their reports, each as it stands when it is looked at."""
        recent = dict(self.account.jobs)
        yield from (job for job in recent.values() if job.is_running)
        yield from (job for job in self._rows(Table.RUNNING, decode_job) if job.id not in recent)

    def entries(self, after: Position, limit: int) -> list[Filed]:
        """Up to `limit` entries behind `after`, in canonical order."""
        found: list[Filed] = []
        if after < self.timeline.begins_after:
            for place, _ in self._past_places(after):
                found.append(self.found(place))
                if len(found) == limit:
                    return found
        return found + list(self.timeline.entries_between(after, limit - len(found)))

    def policies(self, at_most: int) -> list[tuple[Filed, Policy]]:
        """The entries that set the tenant's rules, and the rules, the latest first."""
        recent = [
            (filed, filed.operation)
            for filed, effect in self.timeline.effects()
            if isinstance(filed.operation, Policy) and effect.outcome is Outcome.APPLIED
        ]
        found = recent[: -at_most - 1 : -1]
        prefix = tenant_key(self.tenant)
        if len(found) < at_most:
            rows = self._overlay.scan(Table.POLICIES, prefix, after_prefix(prefix), at_most - len(found), reverse=True)
            found += [
                (self.found(place_of(key.removeprefix(prefix))), read(decode_policy, Table.POLICIES, key, value))
                for key, value in rows
            ]
        return found

    def recent(self) -> list[tuple[Filed, int]]:
        """The entries that are not checkpointed, each with its sort, in canonical order."""
        return [(filed, _sort(filed, effect)) for filed, effect in self.timeline.effects()]

    def past(self, until: Position) -> Iterator[tuple[Position, int]]:
        """The places of checkpointed entries up to `until`, each with its sort, in canonical order.

        They may be read at leisure: rows up to a place that is stable change only where a book is begun again.
        """
        return takewhile(lambda placed: placed[0] <= until, self._past_places(BEGINNING))

    def report(self, contest: Contest) -> Report:
        """The report of a contest as it stands."""
        rivals = self.rivals(contest)
        return build_report(contest, rivals, map(self.found, rivals.first), self._owed_now(contest))

    def _owed_now(self, contest: Contest) -> int:
        """What the loser's claim owes by now. Where a duplicate repaid what others owe, what all of them owe."""
        if contest.canonical.claim is None:
            return -self.account.totals[DEBT]
        claim = self.account.claim(contest.canonical.claim)
        return claim.debt if claim is not None else 0

    # -- entries come in --------------------------------------------------------------------------------------------

    def append(self, filed: Filed, effect: Effect) -> None:
        """An entry of this node, later than all it knows, with the effect that it records."""
        self.entry_count += 1
        self.last_commit = filed.commit
        self.timeline.append(filed, NOTHING if filed.operation is None else effect)
        self._count_amends(filed)

    def insert(self, filed: Filed, now: int) -> None:
        """An entry of another region, or of an earlier boot, at its place."""
        self.entry_count += 1
        self._version += 1
        self.last_commit = filed.commit
        if filed.position <= self.timeline.begins_after:
            self.late_until = self.timeline.begins_after
            self._begin_again()
        self.timeline.insert(filed)
        self.quiet_since = now
        if self.unsettled_since is None:
            self.unsettled_since = now
        self._count_amends(filed)

    @property
    def stable_until(self) -> Position:
        """The place up to which the rows are true, or will be before anything is written."""
        return self.timeline.begins_after if self.late_until is None else self.late_until

    def write_anew(self) -> None:
        """Write the rows again, up to where they were true, after an entry came in before that."""
        assert self.late_until is not None
        count = self.timeline.count_through(self.late_until)
        self.late_until = None
        self._checkpoint_first(count)

    def _count_amends(self, filed: Filed) -> None:
        content = filed.entry.content
        if isinstance(content, Compensation):
            for part in content.of:
                contest = self._contest(part.replica, part.seq)
                if contest is not None:
                    contest.add(Amends(filed.position, part.postings))

    def holds(self, place: Position) -> bool:
        """Whether the entry at `place` is checkpointed already."""
        if place > self.timeline.begins_after:
            return False
        just_before = Position(place.hlc, place.region, place.boot, place.seq - 1)
        return next((found for found, _ in self._past_places(just_before)), None) == place

    def review(self) -> None:
        """Bring the contests up to date with canonical order."""
        for filed, effect in self.timeline.take_refolded():
            if filed.operation is None:
                continue
            contest = self.contests.get(filed.dot)
            if contest is not None:
                contest.canonical = canonical_of(effect)
            elif differs(filed, effect):
                self.contests[filed.dot] = Contest(filed, canonical_of(effect), [])

    def drop_void(self) -> None:
        """Let go of the contests that have come to nothing, once the region has looked at what they were about."""
        for contest in [contest for contest in self.contests.values() if contest.is_void]:
            del self.contests[contest.loser.dot]

    def _contest(self, replica: str, seq: int) -> Contest | None:
        """The contest of an operation that a compensation refers to; None if no such entry is known."""
        dot = Dot(replica, seq)
        contest = self.contests.get(dot)
        if contest is None:
            found = self._journal.find(replica, seq)
            filed = self._leg(found) if found is not None else None
            if filed is None:
                return None
            contest = self.stored_contest(filed.position)
            if contest is None:
                # As recorded, until a review says otherwise.
                contest = Contest(filed, Canonical(filed.postings, filed.outcome, None, 0), [])
            self.contests[dot] = contest
        return contest

    # -- rivals -----------------------------------------------------------------------------------------------------

    def rivals(self, contest: Contest) -> Rivals:
        """The operations earlier in canonical order that the loser had not seen."""
        if contest.rivals is not None and contest.rivals[0] == self._version:
            return contest.rivals[1]
        loser = contest.loser
        if loser.position <= self.timeline.begins_after:
            stored = self._conflict_row(loser.position)
            if stored is not None:
                return Rivals(tuple(stored.rivals), stored.rival_count, tuple(stored.revoked), stored.is_other_request)
        operations, revocations = self._rival_indexes(self._earliest_unknown_to(loser))
        places, count = operations.of(loser, MAX_RIVALS)
        revoking, _ = revocations.of(loser, MAX_RIVALS)
        rivals = Rivals(
            tuple(places),
            count,
            tuple(revoke.lot for place in revoking if isinstance(revoke := self.found(place).operation, Revoke)),
            self._is_other_request(loser),
        )
        contest.rivals = self._version, rivals
        return rivals

    def _is_other_request(self, loser: Filed) -> bool:
        """Whether another request than the loser's has its key or, for a transfer, its name."""
        operation = loser.entry.content
        if isinstance(operation, Transfer):
            first = self._maker(operation, is_receipt=loser.is_receipt)
            return first is not None and self.found(first).request != loser.request
        use = self.account.key_use(loser.key) if loser.key is not None else None
        return use is not None and use.request != loser.request

    def _maker(self, transfer: Transfer, *, is_receipt: bool) -> Position | None:
        """The place of the first transfer of this name, if it has done anything."""
        if is_receipt:
            lot = self.account.lots.get(transfer.grant.lot)
            return lot.granted if lot is not None else None
        claim = self.account.claim(transfer.claim)
        return claim.made if claim is not None else None

    def _rival_indexes(self, since: int) -> tuple[RivalIndex, RivalIndex]:
        """All operations from the clock reading `since` on, and the revocations among them."""
        if self._indexes is None or self._indexes[0] != self._version or self._indexes[1] > since:
            past = list(self._past_places(Position(since - 1, "~", "", 0))) if since <= self._stable_until else []
            placed = [*past, *((filed.position, sort) for filed, sort in self.recent())]
            self._indexes = (
                self._version,
                since,
                RivalIndex(place for place, sort in placed if sort != COMPENSATION),
                RivalIndex(place for place, sort in placed if sort == REVOCATION),
            )
        return self._indexes[2], self._indexes[3]

    @property
    def _stable_until(self) -> int:
        return self.timeline.begins_after.hlc

    def _earliest_unknown_to(self, loser: Filed) -> int:
        """A clock reading before which `loser` had seen everything that this node knows."""
        unknown = (
            self._journal.reading_of(replica, loser.others.get(replica, 0) + 1)
            for replica, count in self._clock.items()
            if replica != loser.entry.replica and count > loser.others.get(replica, 0)
        )
        return min((reading for reading in unknown if reading is not None), default=loser.position.hlc)

    # -- the checkpoint ---------------------------------------------------------------------------------------------

    def checkpoint(self, frontier: int, at_most: int) -> list[Filed]:
        """Write the next stable entries (clock reading at most `frontier`) to the rows and let go of them."""
        assert self.late_until is None, "the rows are to be written anew first"
        count = min(self.timeline.count_until(frontier), at_most)
        return self._checkpoint_first(count) if count else []

    def _checkpoint_first(self, count: int) -> list[Filed]:
        self.review()
        step = self.timeline.first(count)
        # All that may have to be read again for this is, before anything is changed: it may be damaged.
        concerned = {place: self._concerned(filed) for place, filed, _ in step} if self.contests else {}
        overlay, prefix = self._overlay, tenant_key(self.tenant)
        totals = self._stored_totals
        last: dict[tuple[Cell, str], object] = {}
        for _, filed, effect in step:
            for account in TOTALS:
                if account in effect.postings:
                    totals[account] += effect.postings[account]
            for change in effect.changes:
                if change.cell is Cell.POLICY:
                    overlay.put(Table.POLICIES, history_key(self.tenant, filed.position), encode_value(change.new))
                else:
                    last[change.cell, change.id] = change.new
            for contest in concerned.get(filed.position, ()):
                self._write_contest(contest)
                if contest.is_settled:
                    self.contests.pop(contest.loser.dot, None)
        for (cell, name), value in last.items():
            key = prefix + name.encode()
            if cell is Cell.LOT:
                overlay.put(Table.LOTS, key, encode_value(value))
            elif cell is Cell.KEY:
                overlay.put(Table.KEYS, key, encode_value(value))
            elif cell is Cell.JOB:
                assert isinstance(value, Job)
                key, runs = prefix + job_key(value.id), value.is_running
                overlay.put(Table.RUNNING if runs else Table.RESTING, key, encode_value(value))
                overlay.delete(Table.RESTING if runs else Table.RUNNING, key)
            elif cell is Cell.CLAIM:
                assert isinstance(value, Claim)
                ended = value.is_ended
                overlay.put(Table.CLOSED if ended else Table.OPEN, key, encode_value(value))
                overlay.delete(Table.OPEN if ended else Table.CLOSED, key)
        history = [(*place, _sort(filed, effect)) for place, filed, effect in step]
        overlay.put(Table.HISTORY, history_key(self.tenant, step[0][0]), encode_value(history))
        remaining = len(self.timeline) - count
        overlay.put(
            Table.STATES,
            prefix,
            pack([step[-1][0], [str(totals[name]) for name in TOTALS], self.entry_count - remaining]),
        )
        self.timeline.drop(count)
        if not isinstance(self.timeline.account.past, StoredPast):
            self.timeline.account.past = StoredPast(overlay, self.tenant)
        return [filed for _, filed, _ in step]

    def _concerned(self, filed: Filed) -> list[Contest]:
        """The contests that a checkpointed entry is about, its own or those that it makes amends for; rivals found."""
        content = filed.entry.content
        parts = [(part.replica, part.seq) for part in content.of] if isinstance(content, Compensation) else []
        contests = [self.contests.get(Dot(*dot)) for dot in [filed.dot, *parts]]
        concerned = [
            contest
            for contest in contests
            if contest is not None and not contest.is_void and contest.loser.position <= filed.position
        ]
        for contest in concerned:
            self.rivals(contest)
        return concerned

    def _write_contest(self, contest: Contest) -> None:
        place, canonical = contest.loser.position, contest.canonical
        rivals = self.rivals(contest)
        amends = [(tuple(part.position), part.postings) for part in contest.amends]
        rival_places = [tuple(place) for place in rivals.first]
        self._overlay.put(Table.CONFLICT_ORDER, conflict_key(place, self.tenant), b"")
        self._overlay.put(
            Table.CONFLICTS,
            history_key(self.tenant, place),
            pack(
                [
                    canonical.postings,
                    str(canonical.outcome),
                    canonical.claim,
                    canonical.owed,
                    amends,
                    rival_places,
                    rivals.count,
                    rivals.revoked,
                    rivals.is_other_request,
                ]
            ),
        )
        unsettled = history_key(self.tenant, place)
        if contest.is_settled:
            self._overlay.delete(Table.UNSETTLED, unsettled)
        else:
            self._overlay.put(Table.UNSETTLED, unsettled, pack(tuple(place)))

    def stored_contest(self, place: Position) -> Contest | None:
        """The contest of a checkpointed entry, if it has one."""
        stored = self._conflict_row(place)
        if stored is None:
            return None
        amends = [Amends(at, postings) for at, postings in stored.amends]
        canonical = Canonical(stored.postings, stored.outcome, stored.claim, stored.owed)
        return Contest(self.found(place), canonical, amends)

    def _conflict_row(self, place: Position) -> StoredContest | None:
        row = self._overlay.get(Table.CONFLICTS, key := history_key(self.tenant, place))
        return None if row is None else read(decode_contest, Table.CONFLICTS, key, row)

    # -- the past ---------------------------------------------------------------------------------------------------

    def _rows(self, table: Table, decode: Callable[[bytes], T]) -> Iterator[T]:
        prefix = tenant_key(self.tenant)
        start, stop = prefix, after_prefix(prefix)
        while rows := self._overlay.scan(table, start, stop, _PAGE):
            for key, value in rows:
                yield read(decode, table, key, value)
            start = rows[-1][0] + b"\0"

    def _past_places(self, after: Position) -> Iterator[tuple[Position, int]]:
        """The places of checkpointed entries behind `after`, in canonical order, each with its sort."""
        prefix = tenant_key(self.tenant)
        start, stop = history_key(self.tenant, after), after_prefix(prefix)
        rows = self._overlay.scan(Table.HISTORY, prefix, start, 1, reverse=True)
        while True:
            for key, value in rows:
                for hlc, region, boot, seq, sort in read(decode_history, Table.HISTORY, key, value):
                    place = Position(hlc, region, boot, seq)
                    if place > after:
                        yield place, sort
            rows = self._overlay.scan(Table.HISTORY, start, stop, _PAGE)
            if not rows:
                return
            start = rows[-1][0] + b"\0"

    def found(self, place: Position) -> Filed:
        """The entry at a place that the history names. Raises `DamagedEntry` if it cannot be read."""
        dot = dot_at(place)
        filed = self._journal.find(dot.replica, dot.seq)
        if filed is None:
            raise DamagedRows(f"the history names {dot.replica}:{dot.seq}, which the journal lacks")
        leg = self._leg(filed)
        if leg is None:
            raise DamagedRows(f"the history of {self.tenant} names {dot.replica}:{dot.seq}, which does not concern it")
        return leg

    def _leg(self, filed: Filed) -> Filed | None:
        """An entry as it stands in this book, if it does."""
        return next((leg for leg in legs_of(filed) if leg.tenant == self.tenant), None)

    def _begin_again(self) -> None:
        """Take the whole history back into memory, because an entry came in before what was held to be stable.

        That takes a region that lost its disk while an entry of it was still on the way: rare, so it may be slow. The
        rows are cleared here, and `write_anew` must follow before the batch that has the late entry is sealed.
        """
        everything = [self.found(place) for place, _ in self._past_places(BEGINNING)]
        everything += [filed for filed, _ in self.timeline.effects()]
        self.timeline = Timeline(self.rules)
        self._stored_totals = dict.fromkeys(TOTALS, 0)
        self.contests.clear()
        self._clear_rows(filed.position for filed in everything)
        for filed in everything:
            self.timeline.insert(filed)
        for filed in everything:
            self._count_amends(filed)

    def _clear_rows(self, places: Iterable[Position]) -> None:
        prefix = tenant_key(self.tenant)
        for place in places:
            self._overlay.delete(Table.CONFLICT_ORDER, conflict_key(place, self.tenant))
        for table in _TENANTS_ROWS:
            start = prefix
            while rows := self._overlay.scan(table, start, after_prefix(prefix), _PAGE):
                for key, _ in rows:
                    self._overlay.delete(table, key)
                start = rows[-1][0] + b"\0"


def stored_debt(state: State) -> int:
    """What a tenant owes, by its row."""
    return -int(state.totals[TOTALS.index(DEBT)])


def _sort(filed: Filed, effect: Effect) -> int:
    """What an entry is in the history, by what it does in canonical order."""
    operation = filed.operation
    if operation is None:
        return COMPENSATION
    if effect.outcome is Outcome.DUPLICATE:
        return DUPLICATE
    if effect.outcome is Outcome.REVOKED:
        return VOID
    return REVOCATION if isinstance(operation, Revoke) else OPERATION
