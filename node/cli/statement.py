"""Commands about one tenant's credit over time: statements, what expires, when the credit runs out."""

import asyncio
from typing import Annotated, Final

import typer
from msgspec import structs
from rich.text import Text

from creditmesh import AsyncClient, CreditmeshError, wire
from node.cli.credit import Tenant, behind
from node.cli.exits import USAGE, Stop, stop_for
from node.cli.moment import UNITS_MS, parse_duration, parse_time, shown_duration, shown_time, wall_ms
from node.cli.output import Format, amount, facts, signed, table
from node.cli.reach import PATIENCE, Node, on_node

EXPIRING_MS: Final = 30 * UNITS_MS["d"]

From = Annotated[int, typer.Option("--from", parser=parse_time, metavar="TIME", help="2031-01-31, -30d, ms …")]
To = Annotated[int, typer.Option("--to", parser=parse_time, metavar="TIME", help="Up to and without this time.")]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    for command in (statement, expiring, forecast):
        app.command()(on_node(command))


def statement(
    node: Node,
    tenant: Tenant,
    *,
    since: From,
    to: To,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
) -> None:
    """What changed a tenant's credit in a period, by event time: opening, lines, closing."""
    _check_period(since, to)
    if csv:
        if node.output is Format.JSON:
            raise Stop(USAGE, "give --csv or -o json, not both")
        asyncio.run(_print_csv(node, tenant, since, to))
        return
    reply = node.ask(lambda client: _whole(client, tenant, since, to))
    shown = table("time", "what", "about", "entry", "change#", "available#", "held#", "used#", "owed#")
    shown.add_row(shown_time(since), "opening", "", "", "", *_figures(reply.opening))
    for line in reply.lines:
        what = line.kind if line.outcome in (None, "applied") else f"{line.kind} ({line.outcome})"
        about = line.lot or line.claim or ""
        shown.add_row(shown_time(line.at), what, about, line.entry or "", signed(line.amount), *_figures(line))
    shown.add_row(shown_time(to), "closing", "", "", "", *_figures(reply.closing))
    node.show(reply, shown, *_finality(reply), Text(f"as seen in {reply.region}{behind(reply.behind)}", style="dim"))


def expiring(
    node: Node,
    tenant: Tenant,
    *,
    since: Annotated[
        int | None, typer.Option("--from", parser=parse_time, metavar="TIME", help="Default: now.")
    ] = None,
    to: Annotated[
        int | None, typer.Option("--to", parser=parse_time, metavar="TIME", help="Default: 30 days later.")
    ] = None,
) -> None:
    """The lots that have something left and expire in a period."""
    begin = wall_ms() if since is None else since
    end = begin + EXPIRING_MS if to is None else to
    _check_period(begin, end)
    reply = node.ask(lambda client: client.expiring(tenant, since=begin, to=end))
    shown = table("lot", "remaining#", "live from", "until", "priority#")
    for lot in reply.lots:
        shown.add_row(
            lot.lot, amount(lot.remaining), shown_time(lot.starts_at), shown_time(lot.expires_at), str(lot.priority)
        )
    total = facts(
        tenant=reply.tenant,
        expiring=f"{reply.total:,}",
        between=f"{shown_time(begin)} and {shown_time(end)}",
        as_seen_in=f"{reply.region}{behind(reply.behind)}",
    )
    node.show(reply, *((total, shown) if reply.lots else (total,)))


def forecast(
    node: Node,
    tenant: Tenant,
    *,
    window: Annotated[
        int,
        typer.Option(
            "--window",
            parser=lambda given: (
                given if isinstance(given, int) else parse_duration(given)
            ),  # the default is parsed too
            metavar="DURATION",
            show_default="1h",
            help="How far back to look: up to 31d.",
        ),
    ] = UNITS_MS["h"],
) -> None:
    """When a tenant's credit runs out, if it goes on being used as it was."""
    if not 1 <= window <= wire.MAX_WINDOW_MS:
        raise Stop(USAGE, f"--window: must be from 1ms to {wire.MAX_WINDOW_MS // UNITS_MS['d']}d")
    reply = node.ask(lambda client: client.forecast(tenant, window_ms=window))
    node.show(
        reply,
        facts(
            tenant=reply.tenant,
            used=f"{reply.used:,} in {shown_duration(reply.window_ms)}",
            per_hour=f"{reply.per_hour:,}",
            available=f"{reply.available:,}",
            runs_out=_run_out(reply),
            as_seen_in=f"{reply.region}{behind(reply.behind)}",
        ),
    )


def _check_period(since: int, to: int) -> None:
    if since >= to:
        raise Stop(USAGE, "--from must be before --to")


async def _whole(client: AsyncClient, tenant: str, since: int, to: int) -> wire.StatementReply:
    """All pages as one."""
    page = await client.statement(tenant, since=since, to=to, limit=wire.MAX_PAGE)
    lines = list(page.lines)
    while page.next is not None:
        page = await client.statement(tenant, since=since, to=to, after=page.next, limit=wire.MAX_PAGE)
        lines += page.lines
    return structs.replace(page, lines=lines)


async def _print_csv(node: Node, tenant: str, since: int, to: int) -> None:
    try:
        async with AsyncClient(node.url, retry=PATIENCE) as client:
            async for piece in client.statement_csv(tenant, since=since, to=to):
                typer.echo(piece, nl=False)
    except CreditmeshError as error:
        raise stop_for(error) from error


def _figures(figures: wire.Standing | wire.StatementLine) -> tuple[str | Text, ...]:
    available = Text(amount(figures.available), style="bold red" if figures.available < 0 else "")
    owed = Text(amount(figures.debt), style="bold red" if figures.debt else "")
    return available, amount(figures.held), amount(figures.used), owed


def _finality(reply: wire.StatementReply) -> list[Text]:
    if reply.final:
        return [Text("final: nothing of this period can come in any more", style="bold green")]
    told = [Text(f"not final before {shown_time(reply.final_from)}; may still report:", style="yellow")]
    for region in reply.open_regions:
        promised = "nothing yet" if region.promise is None else f"all up to {shown_time(region.promise[0])}"
        told.append(Text(f"  {region.region}, which has promised {promised}", style="yellow"))
    return told


def _run_out(reply: wire.ForecastReply) -> Text:
    if reply.runs_out_at is None:
        return Text("never", style="bold green")
    if reply.runs_out_at == reply.at:
        return Text("now: nothing is available", style="bold red")
    return Text(f"{shown_time(reply.runs_out_at)}, in {shown_duration(reply.runs_out_at - reply.at)}", style="bold")
