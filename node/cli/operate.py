"""Commands for those who run the cluster: its state, export, audit."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TextIO

import msgspec
import typer
from rich.console import RenderableType
from rich.text import Text

from creditmesh import AsyncClient, CreditmeshError, wire
from node.cli.exits import REFUSED, USAGE, Stop, stop_for
from node.cli.moment import shown_duration, shown_time
from node.cli.output import amount, facts, table
from node.cli.reach import PATIENCE, Node, on_node
from replication.clock import TokenError, VectorClock, decode_token, encode_token


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    for command in (status, export, audit):
        app.command()(on_node(command))


def status(
    node: Node,
    *,
    digest: Annotated[bool, typer.Option("--digest", help="Also the digest of canonical state.")] = False,
) -> None:
    """Regions, links, clocks and alarms, as one node sees them."""
    reply = node.ask(lambda client: client.cluster(digest=digest))
    node.show(reply, *_status(reply))


def _status(reply: wire.ClusterReply) -> list[RenderableType]:
    frontier = reply.frontier
    stable = "nothing yet" if frontier.hlc is None else f"before {shown_time(frontier.hlc[0])}"
    held_back = f", held back by {frontier.held_back_by}" if frontier.held_back_by else ""
    known = {
        "cluster": reply.cluster,
        "region": f"{reply.region} (replica {reply.replica})",
        "entries": f"{sum(reply.clock.values()):,}",
        "stable": stable + held_back,
    }
    if reply.findings is not None:
        found = [f"{count:,} {kind}" for kind, count in reply.findings.items() if count]
        known["findings"] = "; ".join(found) or "none"
    if reply.digest is not None:
        known["digest"] = reply.digest
    peers = table("peer", "link", "heard", "missing here#", "missing there#")
    for link in reply.regions:
        peers.add_row(
            link.region,
            _link(link),
            "never" if link.heard_ms_ago is None else f"{shown_duration(link.heard_ms_ago)} ago",
            amount(link.missing_here),
            amount(link.missing_there),
        )
    logs = table("log", "entries#")
    for replica, count in sorted(reply.clock.items()):
        logs.add_row(replica, amount(count))
    shown: list[RenderableType] = [facts(**known), peers, logs]
    for alarm in reply.alarms:
        times = f", {alarm.count} times" if alarm.count > 1 else ""
        since = shown_time(alarm.raised_at)
        line = f"alarm: {alarm.kind} ({alarm.subject}): {alarm.detail} (since {since}{times})"
        shown.append(Text(line, style="bold red"))
    return shown


def _link(link: wire.RegionLink) -> Text:
    if link.cut:
        return Text("cut on purpose", style="yellow")
    return Text("up", style="green") if link.linked else Text("down", style="red")


# --- export and audit --------------------------------------------------------------------------------------------


def export(
    node: Node,
    *,
    after: Annotated[str | None, typer.Option(help="The clock token that an earlier export ended with.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Write here, not to stdout; with --after, at its end.")
    ] = None,
) -> None:
    """All entries that a node has, one JSON object to a line, causes before consequences.

    At the end, also after a break, stderr says with which --after to go on.
    """
    try:
        clock = {} if after is None else decode_token(after)
    except TokenError as error:
        raise Stop(USAGE, f"--after: {error}") from None
    if file is None:
        asyncio.run(_export(node, after, clock, typer.echo))
        return
    try:
        with file.open("x" if after is None else "a", encoding="utf-8") as out:
            asyncio.run(_export(node, after, clock, _line_writer(out)))
    except FileExistsError:
        raise Stop(USAGE, f"{file} is there already; name another file, or --after to go on with it") from None
    except OSError as error:
        raise Stop(REFUSED, f"{file}: {error.strerror or error}") from None


def _line_writer(out: TextIO) -> Callable[[str], None]:
    def write(line: str) -> None:
        out.write(line + "\n")

    return write


async def _export(node: Node, after: str | None, clock: VectorClock, write: Callable[[str], None]) -> None:
    count = 0
    try:
        async with AsyncClient(node.url, retry=PATIENCE) as client:
            async for entry in client.export(after=after):
                write(msgspec.json.encode(entry).decode())
                clock[entry.replica] = entry.seq  # causes come first, so whatever has come is a clock
                count += 1
    except CreditmeshError as error:
        stop = stop_for(error)
        raise Stop(stop.code, f"broke off after {count:,} entries: {stop.line}{_go_on(clock)}") from error
    typer.echo(f"{count:,} entries{_go_on(clock)}", err=True)


def _go_on(clock: VectorClock) -> str:
    try:
        return f"; to go on from here: --after {encode_token(clock)}" if clock else ""
    except TokenError as error:
        return f"; there is no --after to go on from here: {error}"


def audit(node: Node) -> None:
    """Have a node check its hash chains, and its books against canonical state. Exit code 1 if anything is wrong."""
    reply = node.ask(lambda client: client.audit())
    logs = table("log", "entries#", "hash chain")
    for log in reply.replicas:
        logs.add_row(log.replica, amount(log.entries), "intact" if log.ok else Text("BROKEN", style="bold red"))
    books = "equal canonical state" if reply.books_equal else "wait for a compensation" if reply.ok else "differ"
    verdict = Text("all is well", style="bold green") if reply.ok else Text("NOT WELL", style="bold red")
    node.show(
        reply,
        facts(
            audit=verdict,
            entries=f"{reply.entries:,}",
            tenants=f"{reply.tenants:,}",
            books=books,
            digest=reply.digest,
            as_seen_in=reply.region,
        ),
        logs,
        *(Text(finding, style="red") for finding in reply.findings),
    )
    if not reply.ok:
        raise Stop(REFUSED, f"the audit of {reply.region} found {len(reply.findings)} faults")
