"""``creditmesh chaos``: faults on purpose, where the cluster was started with chaos enabled."""

from collections.abc import Awaitable
from typing import Annotated, TypeVar

import typer

from creditmesh import AsyncClient, NotFound, wire
from node.cli.exits import REFUSED, Stop
from node.cli.moment import parse_duration, shown_duration, shown_time
from node.cli.output import Format, console, facts, print_json, table
from node.cli.reach import Node, on_node

T = TypeVar("T")

chaos_app = typer.Typer(help="Faults on purpose, where the cluster was started with chaos enabled.")

Peers = Annotated[list[str] | None, typer.Argument(help="The peers. Default: all.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    for command in (cut, heal, clock):
        chaos_app.command()(on_node(command))
    app.add_typer(chaos_app, name="chaos")


def cut(node: Node, peers: Peers = None) -> None:
    """Cut a node's links to its peers, in both directions, as a partition would."""
    _set_links(node, peers, wire.LinkState.CUT)


def heal(node: Node, peers: Peers = None) -> None:
    """Open a node's links to its peers again."""
    _set_links(node, peers, wire.LinkState.OPEN)


def _offset(text: str) -> int:
    try:
        size_ms = parse_duration(text.lstrip("+-"))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if size_ms > wire.MAX_CLOCK_OFFSET_MS:
        raise typer.BadParameter(f"at most {shown_duration(wire.MAX_CLOCK_OFFSET_MS)}")
    return -size_ms if text.startswith("-") else size_ms


def clock(
    node: Node,
    *,
    offset: Annotated[
        int | None,
        typer.Option(parser=_offset, metavar="TIME", help="Ahead of the machine's clock: 5s, -2h …"),
    ] = None,
    frozen: Annotated[bool, typer.Option("--frozen", help="Let it stand still.")] = False,
) -> None:
    """Set a node's clock wrong, as a bad machine's would be; without options: right again.

    What a clock that was ahead has written stays in the log, and the node never goes back behind it.
    """
    reply = node.ask(lambda client: _where_allowed(client.set_clock(offset_ms=offset or 0, frozen=frozen)))
    ahead = f"{shown_duration(abs(reply.offset_ms))} {'behind' if reply.offset_ms < 0 else 'ahead'}"
    node.show(
        reply,
        facts(
            region=reply.region,
            clock=f"{ahead if reply.offset_ms else 'right'}{', stands still' if reply.frozen else ''}",
            shows=shown_time(reply.now),
        ),
    )


def _set_links(node: Node, peers: list[str] | None, state: wire.LinkState) -> None:
    async def set_each(client: AsyncClient) -> list[wire.LinkReply]:
        named = peers or [link.region for link in (await client.cluster()).regions]
        return [await _where_allowed(client.set_link(peer, state)) for peer in named]

    replies = node.ask(set_each)
    if node.output is Format.JSON:
        print_json(replies)
        return
    shown = table("region", "peer", "link")
    for reply in replies:
        shown.add_row(reply.region, reply.peer, reply.state.value)
    console().print(shown)


async def _where_allowed(request: Awaitable[T]) -> T:
    try:
        return await request
    except NotFound as error:
        if "peer" in error.fields:
            raise
        line = "this node takes no faults on purpose; start it with --chaos, or with `enabled = true` under [chaos]"
        raise Stop(REFUSED, line) from None
