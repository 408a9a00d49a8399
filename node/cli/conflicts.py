"""Commands about what concurrency broke: conflict reports, who has seen to them, and who owes what because of them."""

import asyncio
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from creditmesh import AsyncClient, CreditmeshError, Unavailable, wire
from node.cli.credit import Key
from node.cli.exits import stop_for
from node.cli.moment import parse_time, shown_time, wall_ms
from node.cli.output import Format, amount, console, facts, print_json, printable, table
from node.cli.reach import PATIENCE, Node, on_node
from node.cli.story import STATE_STYLES, tell

conflicts_app = typer.Typer(help="Operations of which canonical order makes something else than was recorded.")

Tenant = Annotated[str | None, typer.Option(help="Only of this tenant.")]
Kind = Annotated[wire.ConflictKind | None, typer.Option(help="Reallocated ones are shown only so.")]
State = Annotated[wire.ConflictState | None, typer.Option(help="Only those in this state.")]
Loser = Annotated[str | None, typer.Option(help="Only losers of this region.")]
Acknowledged = Annotated[
    bool | None,
    typer.Option(
        "--acknowledged/--unacknowledged",
        help="Only those that somebody has acknowledged, or that nobody has.",
        show_default=False,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    conflicts_app.command("list")(on_node(list_conflicts))
    conflicts_app.command("show")(on_node(show_conflict))
    conflicts_app.command("watch")(on_node(watch))
    conflicts_app.command("ack")(on_node(acknowledge))
    app.add_typer(conflicts_app, name="conflicts")
    app.command()(on_node(debts))


def list_conflicts(
    node: Node,
    *,
    tenant: Tenant = None,
    kind: Kind = None,
    state: State = None,
    loser: Loser = None,
    since: Annotated[
        int | None, typer.Option(parser=parse_time, metavar="TIME", help="Only losers accepted at or after.")
    ] = None,
    acknowledged: Acknowledged = None,
    after: Annotated[str | None, typer.Option(help="Where an earlier page ended.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=wire.MAX_PAGE)] = 50,
) -> None:
    """Conflicts, the latest first."""
    reply = node.ask(
        lambda client: client.conflicts(
            tenant=tenant,
            kind=kind,
            state=state,
            region=loser,
            since=since,
            acknowledged=acknowledged,
            after=after,
            limit=limit,
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


def watch(
    node: Node,
    *,
    tenant: Tenant = None,
    kind: Kind = None,
    state: State = None,
    loser: Loser = None,
    acknowledged: Acknowledged = None,
) -> None:
    """Tell each conflict that appears or changes, a line for each, until Ctrl-C.

    A connection that breaks off is taken up again where it was, for as long as that takes.
    """

    async def watched() -> None:
        async with AsyncClient(node.url, retry=PATIENCE) as client:
            following = client.follow_conflicts(
                tenant=tenant, kind=kind, state=state, region=loser, acknowledged=acknowledged
            )
            said_behind = None
            while True:
                try:
                    async for event in following:
                        _tell_event(event, node.output)
                except Unavailable as error:
                    if following.last_id is None:
                        raise
                    if said_behind != following.last_id:  # once, not every second until somebody answers
                        said_behind = following.last_id
                        typer.echo(f"creditmesh: {stop_for(error).line}; going on asking", err=True)

    try:
        asyncio.run(watched())
    except CreditmeshError as error:
        raise stop_for(error) from error
    except KeyboardInterrupt:
        pass  # how a watch ends


def _tell_event(event: wire.ConflictEvent, output: Format) -> None:
    if output is Format.JSON:
        typer.echo(msgspec.json.encode(event).decode())
    else:
        console().print(shown_event(event, wall_ms()), soft_wrap=True)


def shown_event(event: wire.ConflictEvent, now_ms: int) -> Text:
    """An event in a line, with the time at which it was heard of."""
    heard = f"{shown_time(now_ms // 1000 * 1000)}  "
    if event.conflict is None:
        gone = f"{'gone':<11}  {event.gone}: there is no such conflict any more"
        gap = f"{'gap':<11}  something was missed: see `creditmesh conflicts list`"
        return Text(heard + (gone if event.event is wire.ConflictEventKind.GONE else gap))
    conflict = event.conflict
    seen_by = ", ".join(said.by for said in conflict.acknowledged)
    return Text.assemble(
        heard,
        (f"{conflict.state.value:<11}", STATE_STYLES[conflict.state]),
        f"  {conflict.tenant}  amount {amount(conflict.amount)}  debt {amount(conflict.debt)}  {conflict.id}",
        f"  acknowledged by {printable(seen_by)}" if seen_by else "",
    )


def acknowledge(
    node: Node,
    conflict: Annotated[str, typer.Argument(help="Its id, as listed.", show_default=False)],
    *,
    by: Annotated[str, typer.Option(help="Who has seen to it.", show_default=False)],
    note: Annotated[str | None, typer.Option(help="What there is to say of it.")] = None,
    key: Key = None,
) -> None:
    """Say that a conflict was seen to. Every region shows it; credit is not touched."""
    reply = node.write(key, lambda client, key: client.acknowledge(conflict, by=by, note=note, key=key))
    said = reply.acknowledgement
    shown = facts(
        conflict=reply.conflict,
        tenant=reply.tenant,
        acknowledged_by=f"{printable(said.by)} at {shown_time(said.at)} in {said.region}"
        + (", not as the first" if reply.again else ""),
        **({} if said.note is None else {"note": printable(said.note)}),
    )
    node.show(reply, shown)


def debts(node: Node) -> None:
    """Who owes what, by tenant and claim, oldest debt first."""
    reply = node.ask(lambda client: client.debts())
    shown = table("tenant", "owes#", "claim", "of it#")
    for tenant in reply.debts:
        for number, claim in enumerate(tenant.claims):
            first = number == 0
            shown.add_row(
                tenant.tenant if first else "", amount(tenant.debt) if first else "", claim.claim, amount(claim.debt)
            )
    node.show(reply, shown if reply.debts else Text("nobody owes anything"))
