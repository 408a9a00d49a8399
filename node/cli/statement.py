"""Commands about one tenant's credit over time: statements, what expires, when the credit runs out."""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

import typer
from msgspec import structs
from rich.table import Table
from rich.text import Text

from creditmesh import AsyncClient, CreditmeshError, wire
from node.cli.credit import Tenant, behind
from node.cli.exits import USAGE, Stop, stop_for
from node.cli.moment import (
    UNITS_MS,
    parse_duration,
    parse_time,
    shown_clock,
    shown_day,
    shown_duration,
    shown_time,
    wall_ms,
)
from node.cli.output import Fitting, Format, amount, facts, printable, signed, table
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
    shown = Fitting(_wide(reply), _narrow(reply))
    node.show(reply, shown, *_finality(reply), Text(f"as seen in {reply.region}{behind(reply.behind)}", style="dim"))


def _wide(reply: wire.StatementReply) -> Table:
    """A row for each line, and one for each day."""
    shown = table("time (UTC)", "what", "about", *_FIGURES, "entry")
    day = ""
    for row in _rows(reply):
        if shown_day(row.at) != day:
            day = shown_day(row.at)
            shown.add_row(Text(day, style="bold"))
        shown.add_row(shown_clock(row.at), row.what, row.about, *row.figures, row.entry)
    return shown


def _narrow(reply: wire.StatementReply) -> Table:
    """The same with all that is no figure below each other."""
    shown = table("time (UTC), what", *_FIGURES)
    shown.padding = (0, 1, 0, 0)  # so that the name of an entry has room beside figures of seven digits
    for column in shown.columns[1:]:
        column.no_wrap = True
    day = ""
    for row in _rows(reply):
        if shown_day(row.at) != day:
            day = shown_day(row.at)
            shown.add_row(Text(day, style="bold"))
        below = Text("".join([f"\n{name}" for name in (row.about, row.entry) if name]), style="dim")
        shown.add_row(Text(f"{shown_clock(row.at)} {row.what}") + below, *row.figures)
    return shown


_FIGURES: Final = ("change#", "available#", "held#", "used#", "owed#")


class _Row(NamedTuple):
    """What a line says: ``figures`` in the order of `_FIGURES`."""

    at: int
    what: str
    about: str
    figures: tuple[str | Text, ...]
    entry: str


def _rows(reply: wire.StatementReply) -> Iterator[_Row]:
    yield _Row(reply.since, "opening", "", ("", *_figures(reply.opening)), "")
    for line in reply.lines:
        about = printable(line.job or line.lot or line.claim or "")
        yield _Row(line.at, _what(line), about, (signed(line.amount), *_figures(line)), line.entry or "")
    yield _Row(reply.to, "closing", "", ("", *_figures(reply.closing)), "")


def _what(line: wire.StatementLine) -> str:
    # All usage without a reservation is an overrun.
    outcome = [] if line.outcome in (None, "applied") else [str(line.outcome)]
    said = [flag.value for flag in line.flags] or outcome
    return f"{line.kind} ({', '.join(said)})" if said else line.kind


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
    until = shown_time(reply.final_from)
    waits = (
        f"not final before {until}; may still report:"
        if wall_ms() < reply.final_from
        else f"not final yet; it waits for what these promise up to {until}:"
    )
    told = [Text(waits, style="yellow")]
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
