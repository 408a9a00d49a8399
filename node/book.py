"""One tenant at this node: the checkpointed past on disk, the entries since then in memory, and its contests.

A tenant's rows on disk say what its stable entries came to; they change only in steps, each of which takes the next few
stable entries out of memory and writes the cells that they changed, together with the place up to which the rows are
true, in one atomic batch. What is not stable yet is in the journal, and is filed again from there after a restart.
"""

from collections.abc import Iterable, Iterator
from itertools import takewhile

from conflict.contest import Acknowledgement, Amends, Contest
from conflict.detect import Canonical, canonical_of, differs, new_debt
from conflict.report import Report, build_report
from conflict.rivals import MAX_RIVALS, RivalIndex, Rivals
from ledger.account import Account
from ledger.cells import NOTHING, Cell, Effect
from ledger.claim import Claim
from ledger.ids import ClaimId, LotId, Position, TenantId
from ledger.job import Job
from ledger.operation import Acknowledge, Compensation, Debit, Hold, Policy, Revoke, Transfer, Usage
from ledger.posting import DEBT, TOTALS, Outcome
from ledger.rules import Rules
from ledger.timeline import BEGINNING, Timeline
from node.changes import Changes
from node.past import StoredPast
from node.store.errors import DamagedRows
from node.store.journal import Journal
from node.store.kv import Overlay, Table
from node.store.rows import (
    DUPLICATE,
    NO_OPERATION,
    OPERATION,
    REVOCATION,
    VOID,
    conflict_key,
    decode_claim,
    decode_job,
    decode_lot,
    decode_place,
    decode_state,
    dot_at,
    encode_value,
    history_key,
    job_key,
    owed_key,
    pack,
    read,
    tenant_key,
)
from replication.clock import Dot, VectorClock
from replication.filed import Filed, legs_of


class LedgerBook:
    """The timeline of one tenant above its rows.

    Relations kept: ``contests`` holds every contest of an entry that is in the timeline or that something in the
    timeline concerns, or that is not settled, or that has come to nothing since the books were last put right; the
    CONFLICTS rows hold those of checkpointed entries, with those that have come to nothing and that somebody has
    acknowledged. ``_stored_totals`` are
    the totals as the rows have them. ``owing`` has the claims that owed anything when that was last looked at.
    ``quiet_since`` and ``unsettled_since`` are the times (ms) of the last and the first merge since the own contests
    were last put right, or None. ``_version`` counts merges: what was found out about rivals holds for one version.
    ``_clock`` is the node's own, kept by the region.
    """

    __slots__ = (
        "_changes",
        "_clock",
        "_indexes",
        "_journal",
        "_overlay",
        "_past",
        "_stored_totals",
        "_version",
        "contests",
        "digest_counted",
        "entry_count",
        "last_commit",
        "late_until",
        "owing",
        "quiet_since",
        "rules",
        "tenant",
        "timeline",
        "touched_at",
        "unsettled_since",
    )  # fmt: skip

    def __init__(
        self,
        tenant: TenantId,
        rules: Rules,
        overlay: Overlay,
        journal: Journal,
        clock: VectorClock,
        changes: Changes,
    ) -> None:
        self.tenant = tenant
        self.rules = rules
        self._overlay = overlay
        self._past = StoredPast(overlay, tenant)
        self._journal = journal
        self._clock = clock
        self._changes = changes
        self._stored_totals = dict.fromkeys(TOTALS, 0)
        self._version = 0
        self._indexes: tuple[int, int, RivalIndex, RivalIndex] | None = None
        self.contests: dict[Dot, Contest] = {}
        self.owing: frozenset[ClaimId] = frozenset()
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
        self.timeline = Timeline(self.rules, self._past, place)
        self._stored_totals.update(zip(TOTALS, map(int, totals), strict=True))
        self.timeline.account.load(
            self._stored_totals,
            self._past.policy(),
            self._past.all(Table.LOTS, decode_lot),
            self._past.all(Table.OPEN, decode_claim),
        )
        self.owing = frozenset(self.timeline.account.debtors.values())
        for place in self._past.all(Table.UNSETTLED, decode_place):
            contest = self.stored_contest(place)
            if contest is not None:
                self.contests[contest.loser.dot] = contest

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
        return self._past.ended_claims(after, limit)

    def open_jobs(self) -> Iterator[Job]:
        """The jobs that run by their reports or were free, each as it stands when it is looked at."""
        recent = dict(self.account.jobs)
        yield from (job for job in recent.values() if job.is_open)
        yield from (job for job in self._past.all(Table.RUNNING, decode_job) if job.id not in recent)

    def entries(self, after: Position, limit: int) -> list[Filed]:
        """Up to `limit` entries behind `after`, in canonical order."""
        found: list[Filed] = []
        if after < self.timeline.begins_after:
            for place, _ in self._past.places(after):
                found.append(self.found(place))
                if len(found) == limit:
                    return found
        return found + list(self.timeline.entries_between(after, limit - len(found)))

    def used_from(self, name: ClaimId) -> int | None:
        """Before which time (ms) a claim cannot have used anything; None if that is not known.

        A reservation uses nothing before it is made, whatever captures say of their time (`ledger.event_time`).
        """
        claim = self.account.claim(name)
        if claim is None:
            return None
        match self.found(claim.made).operation:
            case Hold():
                return claim.made.now
            case Debit(at=at):
                return at
            case Usage(job=job):
                known = self.account.job(job)
                return known.covered[0][0] if known is not None and known.covered else None
            case _:
                return None

    def policies(self, at_most: int) -> list[tuple[Filed, Policy]]:
        """The entries that set the tenant's rules, and the rules, the latest first."""
        recent = [
            (filed, filed.operation)
            for filed, effect in self.timeline.effects()
            if isinstance(filed.operation, Policy) and effect.outcome is Outcome.APPLIED
        ]
        found = recent[: -at_most - 1 : -1]
        if len(found) < at_most:
            found += [(self.found(place), policy) for place, policy in self._past.policies(at_most - len(found))]
        return found

    def recent(self) -> list[tuple[Filed, int]]:
        """The entries that are not checkpointed, each with its sort, in canonical order."""
        return [(filed, _sort(filed, effect)) for filed, effect in self.timeline.effects()]

    def past(self, until: Position) -> Iterator[tuple[Position, int]]:
        """The places of checkpointed entries up to `until`, each with its sort, in canonical order.

        They may be read at leisure: rows up to a place that is stable change only where a book is begun again.
        """
        return takewhile(lambda placed: placed[0] <= until, self._past.places(BEGINNING))

    def report(self, contest: Contest) -> Report:
        """The report of a contest as it stands."""
        rivals = self.rivals(contest)
        return build_report(contest, rivals, map(self.found, rivals.first), self._owed_now(contest))

    def look_who_owes(self) -> None:
        """Touch the conflicts for which somebody owes who did not when this was last asked, or no longer does."""
        owing = frozenset(self.account.debtors.values())
        if owing != self.owing:
            concerned: set[ClaimId | None] = {*(owing ^ self.owing)}
            if not owing or not self.owing:
                concerned.add(None)
            for claim in concerned:
                for place in self._owed_for_by(claim):
                    self._changes.touch(self.tenant, place)
            self.owing = owing

    def _owed_for_by(self, claim: ClaimId | None) -> Iterator[Position]:
        """The places of the losers for which a claim owes more than recorded; None: for which the tenant does."""
        for contest in self.contests.values():
            if contest.canonical.claim == claim and new_debt(contest.loser, contest.canonical):
                yield contest.loser.position
        yield from self._past.owed_for(claim)

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
        self._count_remarks(filed)

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
        self._count_remarks(filed)

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

    def _count_remarks(self, filed: Filed) -> None:
        """Add what an entry says of others to their contests."""
        content = filed.entry.content
        if isinstance(content, Compensation):
            for part in content.of:
                contest = self._contest(part.replica, part.seq)
                if contest is not None:
                    contest.add(Amends(filed.position, part.postings))
                    self._changes.touch(self.tenant, contest.loser.position)
        elif isinstance(content, Acknowledge):
            contest = self._contest(content.replica, content.seq)
            if contest is not None:
                said = Acknowledgement(filed.position, content.report, content.by, content.note, filed.entry.key)
                contest.acknowledge(said)
                self._changes.touch(self.tenant, contest.loser.position)

    def holds(self, place: Position) -> bool:
        """Whether the entry at `place` is checkpointed already."""
        if place > self.timeline.begins_after:
            return False
        just_before = Position(place.hlc, place.region, place.boot, place.seq - 1)
        return next((found for found, _ in self._past.places(just_before)), None) == place

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
            else:
                continue
            self._changes.touch(self.tenant, filed.position)

    def drop_void(self) -> None:
        """Let go of the contests that have come to nothing, once the region has looked at what they were about.

        They come back with the compensation of a region that does not know yet what this one knows. So what somebody
        has acknowledged is kept until the rows have it.
        """
        for contest in [contest for contest in self.contests.values() if contest.is_void]:
            if not contest.acknowledged or contest.acknowledged[-1].position <= self.timeline.begins_after:
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
            stored = self._past.contest(loser.position)
            if stored is not None:
                return Rivals(tuple(stored.rivals), stored.rival_count, tuple(stored.revoked), stored.is_other_request)
        operations, revocations = self._rival_indexes(self._earliest_unknown_to(loser))
        places, count = operations.of(loser, MAX_RIVALS)
        revoking, _ = revocations.of(loser, MAX_RIVALS)
        rivals = Rivals(
            tuple(places),
            count,
            self._revoked(revoking),
            self._is_other_request(loser),
        )
        contest.rivals = self._version, rivals
        return rivals

    def _revoked(self, places: Iterable[Position]) -> tuple[LotId, ...]:
        """The lots that some revocations close: with a grant all its shares."""
        named = [revoke.lot for place in places if isinstance(revoke := self.found(place).operation, Revoke)]
        if not named:
            return ()
        lots = self.account.lots.values()
        return tuple(dict.fromkeys([*named, *sorted(lot.id for lot in lots if lot.grant in named)]))

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
            past = list(self._past.places(Position(since - 1, "~", "", 0))) if since <= self._stable_until else []
            placed = [*past, *((filed.position, sort) for filed, sort in self.recent())]
            self._indexes = (
                self._version,
                since,
                RivalIndex(place for place, sort in placed if sort != NO_OPERATION),
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
                if contest.is_settled and not contest.is_void:
                    self.contests.pop(contest.loser.dot, None)
        for (cell, name), value in last.items():
            key = prefix + name.encode()
            if cell is Cell.LOT:
                overlay.put(Table.LOTS, key, encode_value(value))
            elif cell is Cell.KEY:
                overlay.put(Table.KEYS, key, encode_value(value))
            elif cell is Cell.JOB:
                assert isinstance(value, Job)
                key, runs = prefix + job_key(value.id), value.is_open
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
        if self.quiet_since is None:
            self.drop_void()
        self.timeline.account.past = self._past
        return [filed for _, filed, _ in step]

    def _concerned(self, filed: Filed) -> list[Contest]:
        """The contests of a checkpointed entry that are worth a row; rivals found.

        Its own and those of which it says something, unless they have come to nothing and nobody has spoken of them.
        """
        contests = [self.contests.get(dot) for dot in (filed.dot, *_subjects(filed))]
        concerned = [
            contest
            for contest in contests
            if contest is not None
            and (contest.acknowledged or not contest.is_void)
            and contest.loser.position <= filed.position
        ]
        for contest in concerned:
            self.rivals(contest)
        return concerned

    def _write_contest(self, contest: Contest) -> None:
        place, canonical = contest.loser.position, contest.canonical
        rivals = self.rivals(contest)
        amends = [(tuple(part.position), part.postings) for part in contest.amends]
        rival_places = [tuple(place) for place in rivals.first]
        acknowledged = [
            [tuple(said.position), said.report, said.by, said.note, said.key] for said in contest.acknowledged
        ]
        if new_debt(contest.loser, canonical):
            self._overlay.put(Table.OWED, owed_key(self.tenant, canonical.claim, place), b"")
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
                    acknowledged,
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
        stored = self._past.contest(place)
        if stored is None:
            return None
        amends = [Amends(at, postings) for at, postings in stored.amends]
        canonical = Canonical(stored.postings, stored.outcome, stored.claim, stored.owed)
        return Contest(self.found(place), canonical, amends, stored.acknowledged)

    # -- the past ---------------------------------------------------------------------------------------------------

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
        everything = [self.found(place) for place, _ in self._past.places(BEGINNING)]
        everything += [filed for filed, _ in self.timeline.effects()]
        self.timeline = Timeline(self.rules)
        self._stored_totals = dict.fromkeys(TOTALS, 0)
        self.contests.clear()
        self._past.clear()
        for filed in everything:
            self._overlay.delete(Table.CONFLICT_ORDER, conflict_key(filed.position, self.tenant))
        for filed in everything:
            self.timeline.insert(filed)
        for filed in everything:
            self._count_remarks(filed)


def _subjects(filed: Filed) -> list[Dot]:
    """The entries of which an entry says something."""
    match filed.entry.content:
        case Compensation(of=parts):
            return [Dot(part.replica, part.seq) for part in parts]
        case Acknowledge(replica=replica, seq=seq):
            return [Dot(replica, seq)]
        case _:
            return []


def _sort(filed: Filed, effect: Effect) -> int:
    """What an entry is in the history, by what it does in canonical order."""
    operation = filed.operation
    if operation is None:
        return NO_OPERATION
    if effect.outcome is Outcome.DUPLICATE:
        return DUPLICATE
    if effect.outcome is Outcome.REVOKED:
        return VOID
    return REVOCATION if isinstance(operation, Revoke) else OPERATION
