"""``creditmesh demo``: three regions on this machine, one of them cut off while all of them spend, and the books after.

Every region is a real node with its own process, directory and sockets, started by ``creditmesh serve``; every request
is HTTP. Nothing is shown that was not asked of the nodes. The demo fails, with the reason, if the regions do not come
to agree, if an audit finds a fault, if an acknowledged operation is missing or there twice in any region, or if there
was no conflict to show.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.text import Text

from creditmesh import CreditmeshError, wire
from node.cli import summary
from node.cli.exits import REFUSED, USAGE, Stop, stop_for
from node.cli.output import console
from node.cli.performance import Performance, perform
from node.cli.progress import Teller
from node.cli.replay import Jobs, Seed, Trace, make_plan
from node.cli.story import tell
from node.cli.testbed import REGIONS, testbed

Data = Annotated[Path | None, typer.Option("--data", help="An empty directory to work in, kept. Default: a new one.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the directory, to look at or to go on with.")]


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    app.command()(demo)


def demo(*, trace: Trace = None, seed: Seed = 1, jobs: Jobs = 3000, data: Data = None, keep: Keep = False) -> None:
    """Show it: three regions, a cut, the same credit spent on both sides, and how the books are put right."""
    with _place(data, keep=keep) as place:
        try:
            uvloop.run(_demo(place, trace, seed, jobs))
        except CreditmeshError as error:
            raise stop_for(error) from error


@contextmanager
def _place(data: Path | None, *, keep: bool) -> Iterator[Path]:
    """The directory to work in; gone afterwards, unless somebody wants it."""
    if data is None:
        place = Path(tempfile.mkdtemp(prefix="creditmesh-demo-"))
    else:
        place = data.resolve()
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise Stop(USAGE, f"--data {data}: is not empty")
    try:
        yield place
    finally:
        if keep or data is not None:
            typer.echo(f"kept in {place}; to go on with it: creditmesh up --config {place / 'cluster.toml'}", err=True)
        else:
            shutil.rmtree(place, ignore_errors=True)


async def _demo(place: Path, trace: Path | None, seed: int, jobs: int) -> None:
    with Teller() as teller:
        async with testbed(place, teller) as bed:
            plan = make_plan(trace, seed, jobs, bed.cluster)
            teller.say(plan.told)
            performed = await perform(plan, bed, teller)
        teller.say("all nodes are stopped")
    _show(performed)
    reason = failed(performed)
    if reason is not None:
        raise Stop(REFUSED, reason)
    console().print(
        Text(
            "Every acknowledged operation is in every region's log exactly once;"
            " all regions hold the same state and report the same conflicts.",
            style="bold green",
        )
    )


def failed(performed: Performance) -> str | None:
    """Why the demo has not shown what it is for, if so."""
    if performed.wrong:
        return f"the logs are not what they must be ({len(performed.wrong)} findings): {performed.wrong[0]}"
    if not any(
        conflict.kind is wire.ConflictKind.OVERSPEND and conflict.debt and conflict.compensations
        for conflict in performed.conflicts.listed
    ):
        return "no overspending was compensated: the regions never spent the same credit"
    if not performed.doings.overall().requests:
        return "no request was made"
    return None


def _show(performed: Performance) -> None:
    out = console()
    out.print(*summary.work(performed.doings), summary.conflicts(performed.conflicts), sep="\n")
    told = summary.worth_telling(performed.conflicts.listed)
    if told is not None:
        out.print(Text("One of them in full", style="bold"), *tell(told, sorted(REGIONS)), Text(), sep="\n")
    out.print(
        summary.debts(performed.debts),
        *summary.agreement(performed.agreed, performed.exported, performed.wrong),
        sep="\n",
    )
