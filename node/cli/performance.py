"""What happens in the demo, in order: credit, jobs in three regions, a cut, more credit, agreement, proof.

While the link is cut, two things are staged for a tenant of their own, so that there is more to see than overspending:
a client that gets no answer from the region that is cut off and repeats its request in another, under the same key;
and a lot that the platform revokes on one side while it is spent on the other.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Final

from creditmesh import Accepted, AsyncClient, wire
from creditmesh.checker import unequal_reports
from creditmesh.history import History
from creditmesh.replay import CAPTURE, HOLD, TraceClock, wall_ms
from creditmesh.workload import PlannedGrant
from node.cli.drive import (
    Agreement,
    Conflicts,
    Doings,
    conflicts_of,
    give_all,
    prove,
    replay_all,
    until_all_know,
    until_they_agree,
)
from node.cli.exits import REFUSED, Stop
from node.cli.plan import CUT_AT_S, HEAL_AT_S, PACE, TOP_UP_AT_S, Plan
from node.cli.progress import Teller
from node.cli.replay import HEAD_START_MS
from node.cli.testbed import Testbed

RUN: Final = "demo"
REPEATING: Final = "repeating"
REVOKED: Final = "revoked"
"""The tenants of what is staged."""

REPEATED: Final = 3
STAGED_CREDIT: Final = 100_000
STAGED_LEASE_MS: Final = 30_000


@dataclass(frozen=True, slots=True)
class Performance:
    """What was done and what came of it."""

    doings: Doings
    conflicts: Conflicts
    debts: list[wire.TenantDebt]
    agreed: Agreement
    exported: dict[str, int]
    wrong: list[str]


async def perform(plan: Plan, bed: Testbed, teller: Teller) -> Performance:
    """The demo from the first grant to the proof."""
    doings = Doings()
    clock = plan.clock(wall_ms() + HEAD_START_MS)
    await _give(plan, bed, clock, doings)
    teller.say("credit is given, and known in all regions; three schedulers start their jobs")
    async with asyncio.TaskGroup() as group:
        jobs = group.create_task(
            replay_all(
                bed.clients,
                plan.jobs,
                clock,
                RUN,
                PACE,
                lambda ended: teller.count("jobs ended", ended, len(plan.jobs)),
            )
        )
        group.create_task(_incidents(plan, bed, clock, doings, teller))
    teller.counted()
    for region, history in jobs.result().items():
        doings.add(history, region)
    teller.say("all jobs have ended; waiting until the regions agree")
    agreed = await until_they_agree(bed.clients)
    teller.say("equal clocks, equal digests, no compensation due; reading every region's log from the first entry")
    exported, wrong = await prove(bed.clients, doings.records, None)
    told = {region: await conflicts_of(client, 0) for region, client in bed.clients.items()}
    wrong += unequal_reports({region: found.listed for region, found in told.items()})
    client, found = next(iter(bed.clients.values())), next(iter(told.values()))
    return Performance(doings, found, (await client.debts()).debts, agreed, exported, wrong)


async def _give(plan: Plan, bed: Testbed, clock: TraceClock, doings: Doings) -> None:
    far_s = plan.trace_s(3600)
    staged = [
        PlannedGrant(tenant, plan.busiest_region, tenant, STAGED_CREDIT, far_s) for tenant in (REPEATING, REVOKED)
    ]
    for history in await give_all(bed.clients, [*plan.scarce_grants(), *staged], clock, RUN):
        doings.add(history)
    await until_all_know(bed.clients)


async def _incidents(plan: Plan, bed: Testbed, clock: TraceClock, doings: Doings, teller: Teller) -> None:
    alone = plan.busiest_region
    await _until(clock, CUT_AT_S)
    await bed.set_links(alone, wire.LinkState.CUT)
    teller.say(f"{alone} is cut off from the other two; all three go on spending", "bold yellow")
    await _until(clock, (CUT_AT_S + HEAL_AT_S) / 2)
    doings.add(await _staged(alone, bed))
    teller.say(
        f"staged, on tenants of their own: {REPEATED} requests repeated in another region under the same key,"
        " and a lot revoked in one region that the other spends"
    )
    await _until(clock, HEAL_AT_S)
    await bed.set_links(alone, wire.LinkState.OPEN)
    teller.say(f"the links of {alone} are open again", "bold green")
    await _until(clock, TOP_UP_AT_S)
    for history in await give_all(bed.clients, plan.top_ups(), clock, RUN):
        doings.add(history)
    teller.say("every second tenant gets more credit, which repays its debt first")


async def _until(clock: TraceClock, real_s: float) -> None:
    await asyncio.sleep(max(0.0, clock.started_ms / 1000 + real_s - wall_ms() / 1000))


async def _staged(alone: str, bed: Testbed) -> History:
    """The two incidents. Raises `Stop` if one of their requests is not accepted."""
    history = History(at_once=1, now_ms=wall_ms)
    here = bed.clients[alone]
    there = next(client for region, client in bed.clients.items() if region != alone)
    for number in range(REPEATED):
        await _repeated_elsewhere(history, f"{RUN}:{REPEATING}:{number}", here, there)
    await _revoked_and_spent(history, here, there)
    for record in history.records:
        if record.reason:
            raise Stop(REFUSED, f"{record.kind} {record.key}, staged, was {record.ending}: {record.reason}")
    return history


async def _repeated_elsewhere(history: History, job: str, here: AsyncClient, there: AsyncClient) -> None:
    amount, key = STAGED_CREDIT // 10, f"{job}:{HOLD}"
    for client in (here, there):
        request = partial(client.reserve, REPEATING, amount, lease_ms=STAGED_LEASE_MS, job=job, key=key)
        held = await history.send(HOLD, REPEATING, key, amount, request)
    if isinstance(held, Accepted):
        key = f"{job}:{CAPTURE}"
        request_capture = partial(there.capture, REPEATING, held.reply.reservation, amount, final=True, key=key)
        await history.send(CAPTURE, REPEATING, key, amount, request_capture)


async def _revoked_and_spent(history: History, here: AsyncClient, there: AsyncClient) -> None:
    key = f"{RUN}:{REVOKED}:revoke"
    await history.send("revoke", REVOKED, key, 0, partial(there.revoke, REVOKED, f"{RUN}.{REVOKED}", key=key))
    key, amount = f"{RUN}:{REVOKED}:debit", STAGED_CREDIT // 2
    await history.send("debit", REVOKED, key, amount, partial(here.debit, REVOKED, amount, key=key))
