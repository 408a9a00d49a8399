"""Driving a running cluster: schedulers in all regions at once, waiting until the regions agree, and the proof of it.

The regions agree when all of them hold the same entries (equal vector clocks), show the same digest of canonical
state, and owe no compensation: their books are canonical state. That is asked of them, however long it takes.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from creditmesh import AsyncClient, wire
from creditmesh.checker import conflicts_of_kind, findings, read_log, unequal_digests
from creditmesh.history import History, Record, Statistics
from creditmesh.replay import Pace, Scheduler, TraceClock, give
from creditmesh.workload import Job, PlannedGrant
from node.cli.exits import REFUSED, Stop
from replication.clock import encode_token

Clients = Mapping[str, AsyncClient]
"""One client for each region, that asks its node and no other."""

POLL_S: Final = 0.25
AGREE_WITHIN_S: Final = 60.0


@dataclass(slots=True)
class Doings:
    """What clients did: every request that they made, and the statistics of the schedulers by region."""

    records: list[Record] = field(default_factory=list)
    by_region: dict[str, Statistics] = field(default_factory=dict)

    def add(self, history: History, region: str | None = None) -> None:
        """Counts in a history; `region` is that of its scheduler, if it is a scheduler's."""
        self.records += history.records
        if region is not None:
            self.by_region[region] = history.statistics

    def overall(self) -> Statistics:
        """The requests of all clients together."""
        overall = Statistics()
        for record in self.records:
            overall.add(record)
        return overall


@dataclass(frozen=True, slots=True)
class Agreement:
    """What all regions showed when they agreed."""

    states: dict[str, wire.ClusterReply]
    audits: dict[str, wire.AuditReply]


@dataclass(frozen=True, slots=True)
class Conflicts:
    """The conflicts of a run, as a region lists them; those that cost nobody anything are only counted."""

    listed: list[wire.Conflict]
    reallocated: int

    def by_kind(self) -> Counter[str]:
        """How many of each kind."""
        counts = Counter(conflict.kind.value for conflict in self.listed)
        if self.reallocated:
            counts[wire.ConflictKind.REALLOCATED.value] = self.reallocated
        return counts


# --- work --------------------------------------------------------------------------------------------------------


async def give_all(clients: Clients, grants: Iterable[PlannedGrant], clock: TraceClock, run: str) -> list[History]:
    """Gives every grant in its tenant's home region. Raises `Stop` if one is refused."""
    by_home: dict[str, list[PlannedGrant]] = {}
    for grant in grants:
        by_home.setdefault(grant.home_region, []).append(grant)
    given = [give(clients[home], theirs, clock, run=run) for home, theirs in by_home.items()]
    histories = list(await asyncio.gather(*given))
    for record in (record for history in histories for record in history.records):
        if record.reason:
            raise Stop(REFUSED, f"the grant {record.key} was {record.ending}: {record.reason}")
    return histories


async def replay_all(
    clients: Clients,
    jobs: Iterable[Job],
    clock: TraceClock,
    run: str,
    pace: Pace,
    on_progress: Callable[[int], None],
) -> dict[str, History]:
    """Replays the jobs of every region against its node, all at once; `on_progress` hears how many have ended."""
    jobs = list(jobs)
    ended: dict[str, int] = {}

    def progress(region: str) -> Callable[[Statistics], None]:
        def hear(statistics: Statistics) -> None:
            ended[region] = statistics.finished + statistics.dropped
            on_progress(sum(ended.values()))

        return hear

    schedulers = {
        region: Scheduler(region, client, jobs, clock, run=run, pace=pace, on_progress=progress(region))
        for region, client in clients.items()
    }
    histories = await asyncio.gather(*(scheduler.replay() for scheduler in schedulers.values()))
    return dict(zip(schedulers, histories, strict=True))


async def until_all_know(clients: Clients) -> None:
    """Returns when every region holds what any of them holds now. Raises `Stop` if that takes too long."""
    target = _merged(await states_of(clients))
    try:
        async with asyncio.timeout(AGREE_WITHIN_S):
            while True:
                states = await states_of(clients)
                if all(_covers(state.clock, target) for state in states.values()):
                    return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise Stop(REFUSED, f"the regions did not hear of each other within {AGREE_WITHIN_S:.0f} s") from None


def _merged(states: Mapping[str, wire.ClusterReply]) -> dict[str, int]:
    merged: dict[str, int] = {}
    for state in states.values():
        for replica, count in state.clock.items():
            merged[replica] = max(merged.get(replica, 0), count)
    return merged


def _covers(clock: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return all(clock.get(replica, 0) >= count for replica, count in other.items())


# --- agreement and proof -----------------------------------------------------------------------------------------


async def until_they_agree(clients: Clients) -> Agreement:
    """What the regions show when they agree. Raises `Stop` if they do not in time, or if an audit finds a fault."""
    states: dict[str, wire.ClusterReply] = {}
    try:
        async with asyncio.timeout(AGREE_WITHIN_S):
            while True:
                states = await states_of(clients, digest=True)
                if _agree(states):
                    audits = await _audits(clients)
                    again = await states_of(clients, digest=True)
                    # Nothing was added while the audits ran: they are all about the same entries.
                    if _agree(again) and _clock(again) == _clock(states) and _settled(audits):
                        return Agreement(again, audits)
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise Stop(REFUSED, f"no agreement within {AGREE_WITHIN_S:.0f} s: {_disagreement(states)}") from None


def _agree(states: Mapping[str, wire.ClusterReply]) -> bool:
    first, *others = states.values()
    return all(
        not state.unsettled_tenants and state.clock == first.clock and state.digest == first.digest
        for state in (first, *others)
    )


def _clock(states: Mapping[str, wire.ClusterReply]) -> dict[str, int]:
    return next(iter(states.values())).clock


def _settled(audits: Mapping[str, wire.AuditReply]) -> bool:
    for region, audit in audits.items():
        if not audit.ok:
            raise Stop(REFUSED, f"the audit of {region} found: {'; '.join(audit.findings)}")
    return all(audit.books_equal for audit in audits.values())


def _disagreement(states: Mapping[str, wire.ClusterReply]) -> str:
    if not states:
        return "no region answered"
    clocks = {region: state.clock for region, state in states.items()}
    if len({tuple(sorted(clock.items())) for clock in clocks.values()}) > 1:
        held = ", ".join(f"{region} {sum(clock.values()):,}" for region, clock in clocks.items())
        return f"the regions do not hold the same entries ({held})"
    unsettled = {region: state.unsettled_tenants for region, state in states.items() if state.unsettled_tenants}
    if unsettled:
        return "compensations are due for " + ", ".join(f"{count} tenants in {r}" for r, count in unsettled.items())
    return "; ".join(unequal_digests({region: state.digest for region, state in states.items()})) or "books differ"


async def states_of(clients: Clients, *, digest: bool = False) -> dict[str, wire.ClusterReply]:
    """What each region shows of the cluster."""
    replies = await asyncio.gather(*(client.cluster(digest=digest) for client in clients.values()))
    return dict(zip(clients, replies, strict=True))


async def _audits(clients: Clients) -> dict[str, wire.AuditReply]:
    replies = await asyncio.gather(*(client.audit() for client in clients.values()))
    return dict(zip(clients, replies, strict=True))


async def prove(
    clients: Clients, records: list[Record], began: Mapping[str, wire.ClusterReply] | None
) -> tuple[dict[str, int], list[str]]:
    """Exports every region's log and checks it; returns the entries read by region, and what is wrong.

    `began` is what the regions showed before the run, to read only what came later; None to read everything.
    """
    counts: dict[str, int] = {}
    wrong: list[str] = []
    for region, client in clients.items():
        before = {} if began is None else began[region].clock
        log = await read_log(region, client, before, encode_token(before) if before else None)
        debts = {debt.tenant: debt.debt for debt in (await client.debts()).debts}
        counts[region] = len(log.kept)
        wrong += findings(log, records, debts if began is None else None)
    return counts, wrong


async def conflicts_of(client: AsyncClient, since: int) -> Conflicts:
    """All conflicts detected since a time, as one region lists them."""
    reallocated = 0
    async for _ in conflicts_of_kind(client, wire.ConflictKind.REALLOCATED, since):
        reallocated += 1
    return Conflicts([conflict async for conflict in conflicts_of_kind(client, None, since)], reallocated)
