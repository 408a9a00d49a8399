"""``creditmesh replay``: jobs of a trace, or made-up ones, against a running cluster, a scheduler in each region."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop
from rich.text import Text

from creditmesh import AsyncClient, CreditmeshError
from creditmesh.workload import TraceError, grants_for
from node.cli import summary
from node.cli.drive import (
    Doings,
    conflicts_of,
    give_all,
    prove,
    replay_all,
    states_of,
    until_all_know,
    until_they_agree,
)
from node.cli.exits import REFUSED, USAGE, Stop, stop_for
from node.cli.moment import wall_ms
from node.cli.output import console
from node.cli.plan import PACE, Plan
from node.cli.progress import Teller
from node.cli.reach import DEFAULT_CONFIG, Config, url_of
from node.config import ClusterConfig, load

FRACTION: Final = 1.2
"""Tenants get credit for so much of what their jobs use: estimates are too high, and lots expire."""

HEAD_START_MS: Final = 1_500
"""Time for the grants to be given and heard of, before the first job starts."""

Trace = Annotated[Path | None, typer.Option("--trace", help="Jobs to replay, CSV or CSV.gz. Default: made-up ones.")]
Seed = Annotated[
    int, typer.Option("--seed", help="Of what is drawn: the same seed, the same jobs in the same regions.")
]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="How many jobs.")]


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    app.command()(replay)


def replay(*, trace: Trace = None, seed: Seed = 1, jobs: Jobs = 3000, config: Config = DEFAULT_CONFIG) -> None:
    """Replay jobs against a running cluster, and check that its logs hold what it acknowledged."""
    cluster = load(config)
    plan = make_plan(trace, seed, jobs, cluster)
    try:
        uvloop.run(_replay(plan, cluster))
    except CreditmeshError as error:
        raise stop_for(error) from error


def make_plan(trace: Path | None, seed: int, jobs: int, cluster: ClusterConfig) -> Plan:
    """What to run. Raises `Stop` for a trace that cannot be used."""
    regions = [region.name for region in cluster.regions]
    try:
        plan = Plan.make(trace, seed, jobs, regions)
    except TraceError as error:
        raise Stop(USAGE, str(error)) from None
    elsewhere = sorted({job.home_region for job in plan.jobs} - set(regions))
    if elsewhere:
        raise Stop(USAGE, f"{trace}: jobs of {', '.join(elsewhere)}, which the cluster does not have")
    return plan


async def _replay(plan: Plan, cluster: ClusterConfig) -> None:
    run, doings = f"replay-{wall_ms()}", Doings()
    with Teller() as teller:
        async with AsyncExitStack() as stack:
            clients = {
                region.name: await stack.enter_async_context(AsyncClient(url_of(region))) for region in cluster.regions
            }
            began, began_ms = await states_of(clients), wall_ms()
            teller.say(plan.told)
            clock = plan.clock(began_ms + HEAD_START_MS)
            for history in await give_all(clients, grants_for(plan.jobs, fraction=FRACTION), clock, run):
                doings.add(history)
            await until_all_know(clients)
            histories = await replay_all(
                clients, plan.jobs, clock, run, PACE, lambda ended: teller.count("jobs ended", ended, len(plan.jobs))
            )
            teller.counted()
            for region, history in histories.items():
                doings.add(history, region)
            teller.say("all jobs have ended; waiting until the regions agree")
            agreed = await until_they_agree(clients)
            exported, wrong = await prove(clients, doings.records, began)
            client = next(iter(clients.values()))
            found, owed = await conflicts_of(client, began_ms), (await client.debts()).debts
    out = console()
    out.print(*summary.work(doings), summary.conflicts(found), summary.debts(owed), sep="\n")
    out.print(*summary.agreement(agreed, exported, wrong), sep="\n")
    if wrong:
        raise Stop(REFUSED, f"the logs are not what they must be: {len(wrong)} findings")
    out.print(Text("Every acknowledged operation is there, once, in every region.", style="bold green"))
