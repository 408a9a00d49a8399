"""The audit: does what is on disk hang together, and do the books say what canonical order says?

Everything is read again from the journal and checked without trusting what the node has worked out before: every log
is followed hash by hash; every tenant is folded from its first entry, and what comes out is compared with the node's
own state of it, with what its rows say of ended claims and of keys, and with the sum of all postings. What cannot be
read is a finding, whatever else it makes impossible; so are the snapshots of schedulers, which are no more than read. A
tenant whose books differ while a compensation is still due is not at fault; it is counted.

The work is cut into slices, so that whoever hosts the region can serve requests in between. An entry that comes in
while its tenant is being folded makes the fold of that tenant start again; a tenant that never holds still for long
enough is folded in one go, or named as not audited if that would stop the node for too long.
"""

from collections.abc import Iterator

from msgspec import Struct, field

from ledger.account import Account
from ledger.cells import KeyUse
from ledger.claim import Claim
from ledger.ids import Key, TenantId
from ledger.job import Job
from ledger.posting import DEBT, HELD_PREFIX, ISSUED, LOT_PREFIX, TOTALS, Postings, add_into
from ledger.timeline import BEGINNING, Timeline
from node.book import LedgerBook
from node.digest import tenant_digest
from node.region import Region
from node.store.errors import DamagedEntry, DamagedStore
from replication.clock import VectorClock
from replication.entry import Entry, EntryError, LogHead, open_sealed
from replication.filed import Filed

_SLICE_ENTRIES = 500
_TRIES = 3
_AT_ONCE_ENTRIES = 100_000


class LogAudit(Struct):
    """One log as the journal has it."""

    replica: str
    entries: int = 0
    ok: bool = True


class AuditResult(Struct):
    """What an audit found; ``findings`` are sentences, empty when all is well."""

    entries: int = 0
    tenants: int = 0
    unsettled_tenants: int = 0
    """Whose books wait for a compensation."""
    logs: dict[str, LogAudit] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def books_equal(self) -> bool:
        """Whether the sum of all postings is canonical state, account by account, now."""
        return self.ok and not self.unsettled_tenants


def audit(region: Region, now: int, result: AuditResult) -> Iterator[None]:
    """Fill `result`; yields where others may be served. `now` (ms) is when it was asked for."""
    in_logs: set[TenantId] = set()
    yield from _follow_logs(region, result, in_logs)
    for tenant in region.books.tenants():
        in_logs.discard(tenant)
        try:
            yield from _audit_tenant(region, tenant, now, result)
        except DamagedStore as error:
            result.findings.append(f"tenant {tenant} cannot be audited: {error}")
        result.tenants += 1
    result.findings += [f"tenant {tenant}: the journal has entries, but there is no book" for tenant in sorted(in_logs)]
    try:
        for tenant in region.snapshots.tenants():
            region.snapshots.of(tenant)
            yield
    except DamagedStore as error:
        result.findings.append(f"the snapshots of schedulers cannot be read: {error}")


def canonical_books(account: Account) -> Postings:
    """What the sum of all postings must be, account by account."""
    books = {name: account.totals[name] for name in TOTALS}
    books |= {LOT_PREFIX + lot.id: lot.remaining for lot in account.lots.values()}
    books |= {HELD_PREFIX + claim.id: claim.held_total for claim in account.claims.values()}
    return {name: amount for name, amount in books.items() if amount}


def _follow_logs(region: Region, result: AuditResult, tenants: set[TenantId]) -> Iterator[None]:
    """Check every log; `tenants` are those that it finds."""
    heads: dict[str, LogHead] = {}
    held = dict(region.durable)
    broken: set[str] = set()
    until = region.journal.durable_commit
    try:
        for commit in range(1, until + 1):
            try:
                runs = region.journal.read(commit)
            except DamagedEntry as error:
                # Reading on finds all that is damaged at once; the logs in there cannot be followed any further.
                result.findings.append(str(error))
                broken.update(region.journal.stretches(commit, held))
                continue
            for run in runs:
                log = result.logs.setdefault(run.replica, LogAudit(run.replica))
                head = heads.setdefault(run.replica, LogHead(run.replica))
                if region.journal.commit_of(run.replica, run.first_seq) != commit:
                    log.ok = False
                    result.findings.append(f"log {run.replica}: the index does not lead to entry {run.first_seq}")
                for sealed in run.entries:
                    entry, digest = open_sealed(sealed)
                    if run.replica not in broken:
                        _follow(head, entry, digest, run.others, log, result)
                    tenants.update(entry.tenants)
                    log.entries += 1
                    result.entries += 1
                    if result.entries % _SLICE_ENTRIES == 0:
                        yield
    except (EntryError, DamagedStore) as error:
        result.findings.append(f"the journal cannot be read to its end: {error}")
        return
    for replica in broken:
        result.logs.setdefault(replica, LogAudit(replica)).ok = False
        del held[replica]
    for replica, count in held.items():
        log = result.logs.setdefault(replica, LogAudit(replica))
        if log.entries != count:
            log.ok = False
            result.findings.append(f"log {replica}: the clock counts {count} entries, the journal has {log.entries}")


def _follow(
    head: LogHead, entry: Entry, digest: bytes, others: VectorClock, log: LogAudit, result: AuditResult
) -> None:
    try:
        head.extend(entry, digest)
    except EntryError as error:
        log.ok = False
        result.findings.append(f"log {entry.replica} at {entry.seq}: {error}")
    if head.others != others:
        log.ok = False
        result.findings.append(f"log {entry.replica} at {entry.seq}: its clock is not what it had seen")


def _audit_tenant(region: Region, tenant: TenantId, now: int, result: AuditResult) -> Iterator[None]:
    for attempt in range(_TRIES):
        book = region.books.existing(tenant, now)
        assert book is not None
        count = book.entry_count
        in_slices = attempt < _TRIES - 1
        if not in_slices and count > _AT_ONCE_ENTRIES:
            result.findings.append(f"tenant {tenant} was too busy to be audited; audit again when it is quieter")
            return
        timeline: Timeline[Filed] = Timeline(region.settings.rules)
        books: Postings = {}
        after = BEGINNING
        while book.entry_count == count and (page := book.entries(after, _SLICE_ENTRIES)):
            for filed in page:
                timeline.insert(filed)
                add_into(books, filed.postings)
            after = page[-1].position
            if in_slices:
                timeline.fold()
                yield
                # The book may have been dropped from memory and read back meanwhile.
                book = region.books.existing(tenant, now) or book
        wrong: list[str] = []
        rows = _kept_in_rows(timeline.account, region)
        for start in range(0, len(rows), _SLICE_ENTRIES):
            if book.entry_count != count:
                break
            wrong += _look_up(book, rows[start : start + _SLICE_ENTRIES])
            if in_slices:
                yield
                book = region.books.existing(tenant, now) or book
        if book.entry_count == count == len(timeline):
            _compare(book, timeline.account, books, result)
            result.findings += [f"tenant {tenant}: {finding}" for finding in wrong]
            return
    result.findings.append(f"tenant {tenant}: {count} entries counted, {len(timeline)} found")


def _kept_in_rows(account: Account, region: Region) -> list[Claim | Job | tuple[Key, KeyUse]]:
    """What rows alone remember of the checkpointed past. Keys whose lifetime is over may be gone."""
    ended = (claim for claim in account.claims.values() if claim.is_ended)
    forgotten_until = (region.frontier >> 16) - region.settings.rules.key_lifetime_ms
    keys = ((key, use) for key, use in account.keys.items() if use.at > forgotten_until)
    return [*ended, *account.jobs.values(), *keys]


def _look_up(book: LedgerBook, expected: list[Claim | Job | tuple[Key, KeyUse]]) -> Iterator[str]:
    for each in expected:
        if isinstance(each, Claim):
            if book.account.claim(each.id) != each:
                yield f"the claim {each.id} is not what its entries come to"
        elif isinstance(each, Job):
            if book.account.job(each.id) != each:
                yield f"the job {each.id} is not what its entries come to"
        elif book.account.key_use(each[0]) != each[1]:
            yield f"the key {each[0]} does not lead to the operation that used it first"


def _compare(book: LedgerBook, account: Account, books: Postings, result: AuditResult) -> None:
    tenant = book.tenant
    if sum(books.values()):
        result.findings.append(f"tenant {tenant}: the postings do not sum to zero")
    if tenant_digest(tenant, account) != tenant_digest(tenant, book.account):
        result.findings.append(f"tenant {tenant}: the state in use is not what its entries come to")
    if books != canonical_books(account):
        book.review()
        if all(contest.is_settled for contest in book.contests.values()):
            result.findings.append(f"tenant {tenant}: the books are not canonical state, and nothing is due")
        else:
            result.unsettled_tenants += 1
    negative = [name for name, amount in canonical_books(account).items() if amount < 0]
    result.findings += [f"tenant {tenant}: {name} is negative" for name in negative if name not in (ISSUED, DEBT)]
