"""Commands about what concurrency broke: conflict reports, and who owes what because of them."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from creditmesh import AsyncClient, wire
from node.cli.moment import parse_time, shown_time
from node.cli.output import Format, amount, console, print_json, printable, table
from node.cli.reach import Node, on_node
from node.cli.story import STATE_STYLES, tell

conflicts_app = typer.Typer(help="Operations of which canonical order makes something else than was recorded.")


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    conflicts_app.command("list")(on_node(list_conflicts))
    conflicts_app.command("show")(on_node(show_conflict))
    app.add_typer(conflicts_app, name="conflicts")
    app.command()(on_node(debts))


def list_conflicts(
    node: Node,
    *,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    kind: Annotated[wire.ConflictKind | None, typer.Option(help="Reallocated ones are listed only so.")] = None,
    state: Annotated[wire.ConflictState | None, typer.Option(help="Only those in this state.")] = None,
    loser: Annotated[str | None, typer.Option(help="Only losers of this region.")] = None,
    since: Annotated[
        int | None, typer.Option(parser=parse_time, metavar="TIME", help="Only those detected at or after.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Where an earlier page ended.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=wire.MAX_PAGE)] = 50,
) -> None:
    """Conflicts, the latest first."""
    reply = node.ask(
        lambda client: client.conflicts(
            tenant=tenant, kind=kind, state=state, region=loser, since=since, after=after, limit=limit
        )
    )
    more = [Text(f"there is more: --after {reply.next}", style="dim")] if reply.has_more else []
    node.show(reply, conflict_table(reply.conflicts), *more)


def conflict_table(conflicts: list[wire.Conflict]) -> Table:
    """Conflicts, one to a line."""
    shown = table("time (UTC)", "tenant", "state", "amount#", "debt#", "id: region, boot, entry, kind")
    for conflict in conflicts:
        shown.add_row(
            shown_time(conflict.loser.hlc[0] // 1000 * 1000).removesuffix("Z"),
            conflict.tenant,
            Text(conflict.state.value, style=STATE_STYLES[conflict.state]),
            amount(conflict.amount),
            amount(conflict.debt),
            conflict.id,
        )
    return shown


def show_conflict(
    node: Node, conflict: Annotated[str, typer.Argument(help="Its id, as listed.", show_default=False)]
) -> None:
    """Tell one conflict in full, with its space-time diagram."""

    async def with_regions(client: AsyncClient) -> tuple[wire.ConflictReply, list[str]]:
        cluster = await client.cluster()
        return await client.conflict(conflict), sorted([cluster.region, *(link.region for link in cluster.regions)])

    reply, regions = node.ask(with_regions)
    if node.output is Format.JSON:
        print_json(reply)
    else:
        console().print(*tell(reply.conflict, regions), sep="\n")


def debts(node: Node) -> None:
    """Who owes what, by tenant and claim, oldest debt first."""
    reply = node.ask(lambda client: client.debts())
    shown = table("tenant", "owes#", "claim", "job", "of it#")
    shown.columns[2].no_wrap = True  # it is there to be copied
    for tenant in reply.debts:
        for number, claim in enumerate(tenant.claims):
            first = number == 0
            shown.add_row(
                tenant.tenant if first else "",
                amount(tenant.debt) if first else "",
                claim.claim,
                printable(" ".join([claim.job or "", *(f"({flag})" for flag in claim.flags)])),
                amount(claim.debt),
            )
    node.show(reply, shown if reply.debts else Text("nobody owes anything"))
