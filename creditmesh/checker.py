"""Whether the regions have what clients were told: histories held against every region's export.

    async with LocalCluster(["us-east", "eu-west"]) as cluster:
        ...
        examined = await examine(cluster.clients, history.records)
        assert not examined.findings, examined.findings

Of each region's log, from its export alone:

- Every log has no gap, and each of its entries names the hash of the one before.
- The postings of every entry sum to zero.
- An acknowledged request stands in the log exactly once, under the dot that was acknowledged, and as it was asked.
- Of the entries that stand under one idempotency key, at most one has effect: of the others, compensations take back
  every posting.
- A refused request does not stand in the log; one that got no answer may.
- What each tenant owes is the sum of the postings on its debt.

And of all regions: they hold the same entries, show the same digest and report the same conflicts, and their audits
find nothing. That is so when they have converged; ask no earlier.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from creditmesh import wire
from creditmesh.calls import Dot
from creditmesh.client import AsyncClient
from creditmesh.history import Ending, Record, verdicts

AT_MOST: Final = 5
"""Findings of one sort that are spelt out; the others are counted."""

COMPENSATION: Final = "compensation"
DEBT: Final = "debt"
FIRST_PREV: Final = "00" * 32
PAGE: Final = 500
QUIET_SECONDS: Final = 1.0


@dataclass(slots=True)
class Kept:
    """What is remembered of an entry."""

    tenant: str
    key: str | None
    kind: str
    amount: int | None
    net: dict[str, int]
    """Its postings, and those of the compensations for it; without accounts that come to nothing."""
    hash: str


@dataclass(slots=True)
class Log:
    """One region's export, as far as it has been read. ``clock`` is the export's beginning, then moves on."""

    region: str
    clock: dict[str, int] = field(default_factory=dict)
    kept: dict[Dot, Kept] = field(default_factory=dict)
    by_key: dict[tuple[str, str], list[Dot]] = field(default_factory=dict)
    debt: dict[str, int] = field(default_factory=dict)
    """By tenant; at most 0."""
    doubled: list[Dot] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    _heads: dict[str, str] = field(default_factory=dict)

    def add(self, entry: wire.ExportedEntry) -> None:
        """Takes the next entry of the export."""
        dot = Dot(entry.replica, entry.seq)
        if dot in self.kept:
            self.doubled.append(dot)
            return
        self._follow_chain(dot, entry)
        received = entry.received or {}
        if sum(entry.postings.values()) or sum(received.values()):
            self.broken.append(f"the postings of {shown(dot)} do not sum to zero")
        self.kept[dot] = Kept(
            entry.tenant, entry.key, entry.kind, entry.body.get("amount"), dict(entry.postings), entry.hash
        )
        if entry.key is not None:
            self.by_key.setdefault((entry.tenant, entry.key), []).append(dot)
        self.debt[entry.tenant] = self.debt.get(entry.tenant, 0) + entry.postings.get(DEBT, 0)
        if received:
            to = entry.body["to"]
            self.debt[to] = self.debt.get(to, 0) + received.get(DEBT, 0)
        if entry.kind == COMPENSATION:
            for replica, seq, postings in entry.body["of"]:
                compensated = self.kept.get(Dot(replica, seq))
                # Of a transfer, `net` is what it comes to for the tenant that gave.
                if compensated is not None and compensated.tenant == entry.tenant:
                    _add(compensated.net, postings)

    def _follow_chain(self, dot: Dot, entry: wire.ExportedEntry) -> None:
        known = self.clock.get(dot.replica, 0)
        if dot.seq != known + 1:
            self.broken.append(f"log {dot.replica} goes from {known} to {dot.seq}")
        elif entry.prev != self._heads.get(dot.replica, FIRST_PREV if not known else entry.prev):
            self.broken.append(f"{shown(dot)} does not name the hash of the entry before it")
        self.clock[dot.replica] = dot.seq
        self._heads[dot.replica] = entry.hash


def findings(log: Log, records: Iterable[Record], debts: dict[str, int] | None) -> list[str]:
    """What is wrong with a region's log, as sentences.

    `debts` is what the region says that each tenant owes; None if the log does not begin at the beginning.
    """
    records = list(records)
    return [
        f"{log.region}: {finding}"
        for sort in (
            iter(log.broken),
            (f"{shown(dot)} stands in the export twice" for dot in log.doubled),
            _unkept_promises(log, records),
            _refused_but_there(log, records),
            _effects_twice(log),
            iter(()) if debts is None else _debts_that_differ(log, debts),
        )
        for finding in _at_most(sort)
    ]


def _unkept_promises(log: Log, records: list[Record]) -> Iterator[str]:
    for record in records:
        if record.ending is not Ending.ACCEPTED:
            continue
        dots = log.by_key.get((record.tenant, record.key), [])
        what = f"{record.kind} {record.key} of {record.tenant}"
        if record.dot is None:
            yield f"{what} was acknowledged without the name of its entry"
        elif record.dot not in log.kept:
            yield f"{what} was acknowledged as {shown(record.dot)}, which is missing"
        elif record.dot not in dots:
            yield f"{what} was acknowledged as {shown(record.dot)}, where another request stands"
        else:
            kept = log.kept[record.dot]
            if kept.kind != record.kind or (record.amount and kept.amount != record.amount):
                yield f"{what} of {record.amount} stands in the log as {kept.kind} of {kept.amount}"


def _refused_but_there(log: Log, records: list[Record]) -> Iterator[str]:
    for (tenant, key), verdict in verdicts(records).items():
        if verdict is Ending.REFUSED and (dots := log.by_key.get((tenant, key))):
            yield f"{key} of {tenant} was refused, but stands in the log as {shown(dots[0])}"


def _effects_twice(log: Log) -> Iterator[str]:
    for (tenant, key), dots in log.by_key.items():
        effective = [dot for dot in dots if log.kept[dot].net]
        if len(effective) > 1:
            yield f"{key} of {tenant} has effect {len(effective)} times: {', '.join(map(shown, effective))}"


def _debts_that_differ(log: Log, debts: dict[str, int]) -> Iterator[str]:
    for tenant in sorted({*log.debt, *debts}):
        posted, said = -log.debt.get(tenant, 0), debts.get(tenant, 0)
        if posted != said:
            yield f"{tenant} owes {posted:,} by its postings, but {said:,} by the list of debts"


def unequal_digests(digests: Mapping[str, str | None]) -> list[str]:
    """A finding if regions show different digests of canonical state."""
    if len(set(digests.values())) == 1 and None not in digests.values():
        return []
    return ["the digests differ: " + ", ".join(f"{region} {digest}" for region, digest in sorted(digests.items()))]


def unequal_logs(logs: Iterable[Log]) -> list[str]:
    """A finding for each region that holds other entries than the first, or other ones under the same name."""
    first, *others = logs
    wrong = []
    for log in others:
        for lacking, holding in ((log, first), (first, log)):
            if dots := holding.kept.keys() - lacking.kept.keys():
                wrong.append(f"{lacking.region} lacks {len(dots)} entries, {shown(min(dots))} among them")
        differ = [dot for dot in first.kept.keys() & log.kept.keys() if first.kept[dot].hash != log.kept[dot].hash]
        if differ:
            wrong.append(f"{first.region} and {log.region} hold different entries {shown(min(differ))}")
    return wrong


def unequal_reports(told: Mapping[str, list[wire.Conflict]]) -> list[str]:
    """A finding for each region that reports other conflicts than the first, or the same ones otherwise."""
    (first, expected), *others = told.items()
    by_id = {conflict.id: conflict for conflict in expected}
    wrong = []
    for region, listed in others:
        reported = {conflict.id: conflict for conflict in listed}
        differ = [name for name in sorted({*by_id, *reported}) if by_id.get(name) != reported.get(name)]
        if differ:
            wrong.append(f"{first} and {region} tell {len(differ)} conflicts differently: {differ[0]}")
    return wrong


def failed_audits(audits: Mapping[str, wire.AuditReply]) -> list[str]:
    """What the audits found, and a finding for each region whose books are not canonical state."""
    wrong = []
    for region, audit in audits.items():
        wrong += [f"{region}: {finding}" for finding in _at_most(f"the audit says: {said}" for said in audit.findings)]
        if audit.ok and not audit.books_equal:
            wrong.append(f"{region}: the books wait for a compensation")
    return wrong


# --- asking a cluster --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Examination:
    """What all regions showed, and what of it is wrong."""

    logs: dict[str, Log]
    conflicts: list[wire.Conflict]
    """As every region reports them, if nothing is wrong; those of every kind."""
    findings: list[str]


async def examine(
    clients: Mapping[str, AsyncClient], records: Iterable[Record], *, timeout_seconds: float = 300.0
) -> Examination:
    """Reads every region's log from its first entry and holds it against `records` and the other regions.

    The regions must have converged, and clients must have stopped. Leases that end and lots that expire still add
    entries: it is looked again until nothing was added meanwhile, for `timeout_seconds`; then TimeoutError is raised.
    """
    records = list(records)
    async with asyncio.timeout(timeout_seconds):
        while True:
            before = await _states(clients)
            await asyncio.sleep(QUIET_SECONDS)  # most of what still ends or expires does so before anything is read
            states = await _states(clients)
            if not _same_clock(*before, *states):
                continue
            examined = await _examine(clients, records, states)
            if _same_clock(*states, *await _states(clients)):
                return examined


async def _states(clients: Mapping[str, AsyncClient]) -> list[wire.ClusterReply]:
    return await asyncio.gather(*(client.cluster(digest=True) for client in clients.values()))


def _same_clock(*states: wire.ClusterReply) -> bool:
    return all(state.clock == states[0].clock for state in states)


async def _examine(
    clients: Mapping[str, AsyncClient], records: list[Record], states: Iterable[wire.ClusterReply]
) -> Examination:
    async with asyncio.TaskGroup() as group:
        shown = {region: group.create_task(_shown_by(region, client)) for region, client in clients.items()}
    told = {region: task.result() for region, task in shown.items()}
    logs = {region: log for region, (log, _, _, _) in told.items()}
    wrong = [finding for log, debts, _, _ in told.values() for finding in findings(log, records, debts)]
    wrong += unequal_logs(logs.values())
    wrong += unequal_digests({state.region: state.digest for state in states})
    wrong += unequal_reports({region: reports for region, (_, _, reports, _) in told.items()})
    wrong += failed_audits({region: audit for region, (_, _, _, audit) in told.items()})
    return Examination(logs, next(reports for _, _, reports, _ in told.values()), wrong)


async def _shown_by(
    region: str, client: AsyncClient
) -> tuple[Log, dict[str, int], list[wire.Conflict], wire.AuditReply]:
    log = await read_log(region, client)
    debts = {debt.tenant: debt.debt for debt in (await client.debts()).debts}
    return log, debts, [conflict async for conflict in every_conflict(client)], await client.audit()


async def read_log(
    region: str, client: AsyncClient, clock: Mapping[str, int] | None = None, after: str | None = None
) -> Log:
    """A region's log from its export: all of it, or what is beyond a clock, given with its token as `after`."""
    log = Log(region, dict(clock or {}))
    async for entry in client.export(after=after):
        log.add(entry)
    return log


async def every_conflict(client: AsyncClient) -> AsyncIterator[wire.Conflict]:
    """All conflict reports of a region, those too that cost nobody anything."""
    for kind in (None, wire.ConflictKind.REALLOCATED):
        async for conflict in conflicts_of_kind(client, kind):
            yield conflict


async def conflicts_of_kind(
    client: AsyncClient, kind: wire.ConflictKind | None, since: int = 0
) -> AsyncIterator[wire.Conflict]:
    """The reports of a kind, page by page; without a kind, of all that cost somebody something."""
    after: str | None = None
    while True:
        page = await client.conflicts(kind=kind, since=since, after=after, limit=PAGE)
        for conflict in page.conflicts:
            yield conflict
        if not page.has_more:
            return
        after = page.next


def shown(dot: Dot) -> str:
    """A dot as people write it."""
    return f"{dot.replica}:{dot.seq}"


def _at_most(sort: Iterator[str]) -> Iterator[str]:
    count = 0
    for count, finding in enumerate(sort, 1):
        if count <= AT_MOST:
            yield finding
    if count > AT_MOST:
        yield f"… and {count - AT_MOST} more of these"


def _add(into: dict[str, int], postings: Mapping[str, int]) -> None:
    for account, amount in postings.items():
        into[account] = into.get(account, 0) + amount
        if not into[account]:
            del into[account]
