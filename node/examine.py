"""What does not add up in the account of one tenant, between reservations, reports of usage and schedulers' snapshots.

By the state that the region has of the tenant now, and by the snapshots of this node, there may be

    never_started       a reservation is open for a job of which nothing has been heard for the grace time
    running_unreserved  a snapshot says that a job runs, or ran, without an open reservation, and it was not charged
    lapsed_running      a job was seen after its reservation had lapsed, or had become void, and it was not charged
    unfinished_usage    a job that was seen has not been seen for the grace time, and has not been finished
    negative_balance    the tenant owes
    books_differ        a compensation is due

A snapshot says what was true when it was made. A job that it says is running was seen at that time, no later; so when
snapshots stop coming, what the last one said grows old like any other sign of life.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Final, NamedTuple

from conflict.contest import Contest
from ledger.amount import MAX_AMOUNT
from ledger.claim import Claim, ClaimState
from ledger.command import GrantCredit, ReleaseHold, ReportUsage
from ledger.ids import ClaimId, JobId, LotId, Position, TenantId, derived, usage_name
from ledger.job import Job
from ledger.operation import Compensation, Difference, Hold
from ledger.pricing import NoPrice, Work
from ledger.rules import DAY_MS
from node.book import LedgerBook
from node.finding import Finding, FindingKind, Remedy, difference_id, finding_id
from node.region import Region
from node.snapshots import JobState, ScheduledJob, Told
from node.store.rows import dot_at
from replication.clock import Dot

MAX_ENTRIES: Final = 16
"""A finding names the first so many entries that it rests on."""

Looked = Iterator[Finding | None]
"""What was found, and None for each thing that is as it should be."""


class Examination:
    """One tenant at one time (ms), by the books and by the snapshots."""

    def __init__(self, region: Region, tenant: TenantId, now: int) -> None:
        self._region = region
        self._tenant = tenant
        self._now = now
        self._grace_ms = region.settings.grace_ms
        self._earliest = now - region.settings.terms.limits.max_late_ms
        self._glanced = region.books.glance(tenant)
        self._told = region.snapshots.of(tenant)

    @property
    def rows(self) -> int:
        """How many rows had to be read before anything can be looked at."""
        account = self._glanced.account
        is_at_hand = self._region.books.in_memory.get(self._tenant) is self._glanced
        return len(self._told) + (0 if is_at_hand else 1 + len(account.lots) + len(account.claims))

    @property
    def _book(self) -> LedgerBook:
        """The book: if it has come into memory since, that one."""
        return self._region.books.in_memory.get(self._tenant, self._glanced)

    def everything(self) -> Looked:
        """All that there is to look at, each thing once."""
        yield from self.balance()
        yield from self.books()
        for claim in list(self._book.account.claims.values()):
            yield from self.reservation(claim.id)
        for running in self._book.running_jobs():
            yield from self.job(running.id)
        for name in self._told:
            job = self._book.account.job(name)
            if job is None or not job.is_running:
                yield from self.job(name)

    # -- the books --------------------------------------------------------------------------------------------------

    def balance(self) -> Looked:
        """What the tenant owes; under escrow, what each region has to repay from its own share of a grant."""
        account = self._book.account
        debtors = sorted(account.debtors)
        if account.is_escrowed:
            for region in sorted({place.region for place in debtors}):
                yield self._owed([place for place in debtors if place.region == region], account.debt(region), region)
        elif debtors:
            yield self._owed(debtors, account.debt(), None)
        else:
            yield None

    def _owed(self, places: list[Position], debt: int, region: str | None) -> Finding:
        names = [self._book.account.debtors[place] for place in places[:MAX_ENTRIES]]
        more = f" and {len(places) - MAX_ENTRIES} more" if len(places) > MAX_ENTRIES else ""
        first = _name(dot_at(places[0]))
        return self._finding(
            FindingKind.NEGATIVE_BALANCE,
            self._tenant,
            first,
            since=places[0].now,
            detail=f"the tenant owes {debt}: {', '.join(names)}{more}",
            places=places,
            remedy=GrantCredit(
                min(debt, MAX_AMOUNT),
                self._now + DAY_MS,
                lot=LotId(f"write-off-{derived(self._tenant, first)}"),
                weights=None if region is None else ((region, 1),),
            ),
            region=region,
        )

    def books(self) -> Looked:
        """Compensations that are due."""
        book = self._book
        book.review()
        for contest in list(book.contests.values()):
            yield None if contest.is_settled else self._difference(book, contest)

    def _difference(self, book: LedgerBook, contest: Contest) -> Finding:
        loser = contest.loser
        claim = book.account.concerned(loser.operation) if loser.operation is not None else None
        why_not = None
        if not contest.amends and not book.rivals(contest).count:
            why_not = "no concurrent operation explains the difference: it is an alarm, and is not put right"
        elif loser.position.region == self._region.settings.region and self._region.may_have_posted:
            why_not = "what this region has posted before may still come back from a peer"
        rest = Difference(loser.entry.replica, loser.entry.seq, contest.open_difference)
        return Finding(
            difference_id(loser.dot, len(contest.amends)),
            FindingKind.BOOKS_DIFFER,
            self._tenant,
            claim or self._tenant,
            loser.position.now,
            f"canonical order makes of {_name(loser.dot)} what the books do not say yet",
            (loser.dot, *[amends.dot for amends in contest.amends])[:MAX_ENTRIES],
            Compensation((rest,)) if why_not is None else None,
            why_not,
            loser.position.region,
        )

    # -- reservations -----------------------------------------------------------------------------------------------

    def reservation(self, name: ClaimId) -> Looked:
        """Whether anything is heard of the job that an open reservation is for."""
        claim = self._book.account.claims.get(name)
        if claim is None or claim.state is not ClaimState.OPEN or claim.job is None or self._is_in_use(claim):
            yield None
            return
        told = self._told.get(claim.job)
        said = "" if told is None else f"; {told.source} says that it is {told.job.state}"
        yield self._finding(
            FindingKind.NEVER_STARTED,
            claim.id,
            _name(dot_at(claim.made)),
            since=claim.made.now,
            detail=f"nothing was heard of the job {claim.job}, for which {claim.held_total} is held{said}",
            places=[claim.made],
            remedy=ReleaseHold(claim.id),
        )

    def _is_in_use(self, claim: Claim) -> bool:
        if self._now - claim.made.now <= self._grace_ms or claim.used_total or claim.id in self._named_by_work:
            return True
        assert claim.job is not None
        job = self._book.account.job(claim.job)
        # What was heard before an earlier end of the job is not about this reservation.
        if job is not None and job.seen_at is not None and (job.is_running or job.seen_at > claim.made.now):
            return True
        if claim.job in self._told and _was_at_work(self._told[claim.job].job):
            return True
        hold = self._region.journal.find(*dot_at(claim.made))
        # A renewal is a sign of life, too.
        return hold is None or not isinstance(hold.operation, Hold) or claim.lease_until > hold.operation.lease_until

    @cached_property
    def _named_by_work(self) -> set[ClaimId]:
        """The reservations that schedulers name for what runs or ran."""
        jobs = (told.job for told in self._told.values())
        return {job.reservation for job in jobs if job.reservation is not None and _was_at_work(job)}

    # -- jobs -------------------------------------------------------------------------------------------------------

    def job(self, name: JobId) -> Looked:
        """Whether a job that was seen was reserved, charged and finished."""
        job = self._book.account.job(name) or Job(name)
        told = self._told.get(name)
        runs_at = told.at if told is not None and told.job.state is JobState.RUNNING else -1
        seen = max(_seen_at(told), -1 if job.seen_at is None else job.seen_at)
        if seen < 0 or (job.finished_at is not None and runs_at <= job.finished_at):
            yield None
            return
        claim = self._reservation_of(job, told)
        match claim.state if claim is not None else None:
            case ClaimState.OPEN:
                is_known = True
            case ClaimState.LAPSED | ClaimState.REVOKED:
                assert claim is not None
                is_known = job.seen_at is not None
                yield self._seen_after(claim, job, told, seen)
            case _:
                is_known = job.seen_at is not None
                yield self._unreserved(claim, job, told)
        is_old = job.finished_at is None and self._now - seen > self._grace_ms
        yield self._unfinished(claim, job, told, seen) if is_old and is_known else None

    def _reservation_of(self, job: Job, told: Told | None) -> Claim | None:
        """The reservation of a job: one that is open, if there is one."""
        account = self._book.account
        names = [None if told is None else told.job.reservation, self._open_for.get(job.id), job.claim]
        claims = [claim for name in names if name is not None and (claim := account.claim(name)) is not None]
        reservations = [claim for claim in claims if claim.is_reservation]
        still_open = [claim for claim in reservations if claim.state is ClaimState.OPEN]
        return next(iter(still_open or reservations), None)

    @cached_property
    def _open_for(self) -> dict[JobId, ClaimId]:
        claims = self._book.account.claims.values()
        return {claim.job: claim.id for claim in claims if claim.job is not None and claim.state is ClaimState.OPEN}

    def _seen_after(self, claim: Claim, job: Job, told: Told | None, seen: int) -> Finding | None:
        """Whether a job was seen after its reservation had ended without it."""
        is_void = claim.state is ClaimState.REVOKED
        ended_at = claim.made.now if is_void else claim.lease_until
        stretch = _not_charged(job, told, seen)
        if seen <= ended_at or stretch.is_empty:
            return None
        how = "was found void" if is_void else "lapsed"
        detail = f"the job was seen {seen - ended_at} ms after its reservation {claim.id} {how}"
        return self._usage(FindingKind.LAPSED_RUNNING, job, told, claim, stretch, ended_at, detail)

    def _unreserved(self, claim: Claim | None, job: Job, told: Told | None) -> Finding | None:
        """Whether a job runs with nothing reserved for it, or has run with nothing that was ever reserved."""
        if told is None or not _was_at_work(told.job) or (claim is not None and told.job.ended_at is not None):
            return None
        stretch = _not_charged(job, told, _seen_at(told))
        if stretch.is_empty:
            return None
        what = "nothing is reserved for it" if claim is None else f"its reservation {claim.id} is closed"
        ran = "runs" if told.job.ended_at is None else "has run"
        since = told.at if stretch.start is None else stretch.start
        detail = f"{told.source} says that the job {ran}, and {what}"
        return self._usage(FindingKind.RUNNING_UNRESERVED, job, told, claim, stretch, since, detail)

    def _usage(
        self,
        kind: FindingKind,
        job: Job,
        told: Told | None,
        claim: Claim | None,
        stretch: "_Stretch",
        since: int,
        detail: str,
    ) -> Finding:
        """A finding that a report of usage would settle, if it can be priced."""
        cost = self._cost(job, told, claim, stretch)
        remedy, why_not = None, None
        if isinstance(cost, str):
            why_not = cost
        else:
            is_over = told is not None and told.job.state is JobState.FINISHED
            start = max(stretch.start or 0, self._earliest)
            remedy = ReportUsage(job.id, stretch.end, start, cost, _named(job, claim), final=is_over)
        places = [] if claim is None else [claim.made]
        rests_on = (*(_name(dot_at(place)) for place in places), str(stretch.start))
        return self._finding(
            kind, job.id, *rests_on, since=since, detail=detail, places=places, remedy=remedy, why_not=why_not
        )

    def _cost(self, job: Job, told: Told | None, claim: Claim | None, stretch: "_Stretch") -> int | str:
        """What a stretch costs, or why nobody can say."""
        settings, start = self._region.settings, stretch.start
        if not self._book.exists:
            return "there is no such tenant here; a tenant begins with its first grant"
        if claim is not None and claim.used_total and not job.covered:
            return f"{claim.used_total} was captured from {claim.id}, and nobody says for which time"
        gpu_type, gpus = (None, None) if told is None else (told.job.gpu_type, told.job.gpus)
        if start is None or gpu_type is None or gpus is None:
            said = {"started_at": start, "gpu_type": gpu_type, "gpus": gpus}
            return f"no snapshot says {', '.join(name for name, value in said.items() if value is None)}"
        if stretch.end <= self._earliest:
            return f"it is over for more than {settings.terms.limits.max_late_ms} ms, and no longer taken"
        work = Work(gpu_type, gpus, told.job.priority if told is not None else None)
        price = settings.terms.rates.price(work, max(start, self._earliest), stretch.end)
        return f"{price.field} {price.rule}" if isinstance(price, NoPrice) else price

    def _unfinished(self, claim: Claim | None, job: Job, told: Told | None, seen: int) -> Finding:
        ended_at = None if told is None else told.job.ended_at
        held = claim.held_total if claim is not None else 0
        made = claim or self._book.account.claim(usage_name(job.id))
        return self._finding(
            FindingKind.UNFINISHED_USAGE,
            job.id,
            str(seen),
            since=seen,
            detail="nobody has said that the job has finished" + (f"; {held} is still held for it" if held else ""),
            places=[] if made is None else [made.made],
            remedy=ReportUsage(
                job.id,
                # What lies further back is no longer taken.
                max(seen if ended_at is None else ended_at, self._earliest),
                reservation=_named(job, claim),
                final=True,
            ),
        )

    def _finding(
        self,
        kind: FindingKind,
        subject: str,
        *rests_on: str,
        since: int,
        detail: str,
        places: list[Position],
        remedy: Remedy | None,
        why_not: str | None = None,
        region: str | None = None,
    ) -> Finding:
        name = finding_id(kind, self._tenant, subject, *rests_on)
        entries = tuple(map(dot_at, places[:MAX_ENTRIES]))
        return Finding(name, kind, self._tenant, subject, since, detail, entries, remedy, why_not, region)


class _Stretch(NamedTuple):
    """Time of a job that was not charged; ``start`` is None where nobody says when it began."""

    start: int | None
    end: int

    @property
    def is_empty(self) -> bool:
        """Whether there is no such time."""
        return self.start is not None and self.start >= self.end


def _not_charged(job: Job, told: Told | None, until: int) -> _Stretch:
    """From the end of what was charged, or else from the job's start.

    What lies between two reports that were charged is left alone: a job can be stopped and go on later.
    """
    start = job.started_at if told is None or told.job.started_at is None else told.job.started_at
    if job.covered:
        start = max(job.covered[-1][1], 0 if start is None else start)
    return _Stretch(start, until)


def _was_at_work(job: ScheduledJob) -> bool:
    """Whether a scheduler says that a job runs, or when it has run."""
    has_run = job.state is JobState.FINISHED and job.started_at is not None and job.ended_at is not None
    return job.state is JobState.RUNNING or has_run


def _seen_at(told: Told | None) -> int:
    """When (ms) a job was last at work, to its scheduler; -1 if it does not say that it was."""
    if told is None or not _was_at_work(told.job):
        return -1
    return told.at if told.job.ended_at is None else told.job.ended_at


def _named(job: Job, claim: Claim | None) -> ClaimId | None:
    """The reservation that a report has to name: one that is not the job's by the books."""
    return claim.id if claim is not None and claim.id != job.claim else None


def _name(dot: Dot) -> str:
    return f"{dot.replica}:{dot.seq}"
