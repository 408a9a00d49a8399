"""Commands that send many things at once, from a file: usage events, and batches of operations.

A file is a JSON list, or one JSON object to a line. It goes out in parts, each answered for itself; what is sent again
counts once, so a command that was interrupted can simply be run again.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
import typer
from rich.table import Table

from creditmesh import wire
from node.cli.exits import REFUSED, USAGE, Stop
from node.cli.output import Format, console, facts, print_json, table
from node.cli.progress import Teller
from node.cli.reach import Node, on_node

AT_ONCE: Final = 2_000
MOST_SHOWN: Final = 20
T = TypeVar("T")

File = Annotated[str, typer.Argument(help="A JSON list, or one object to a line; - for standard input.")]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    app.command()(on_node(usage))
    app.command()(on_node(batch))


def usage(node: Node, file: File) -> None:
    """Tell what jobs did: usage events, or CloudEvents. Exits with 1 if any was refused."""
    replies = _sent(read(file), "events", lambda part: node.ask(lambda client: client.report(part)))
    results = [result for reply in replies for result in reply.results]
    told = wire.UsageEventsReply(
        results=results,
        accepted=sum(reply.accepted for reply in replies),
        duplicates=sum(reply.duplicates for reply in replies),
        refused=sum(reply.refused for reply in replies),
        region=replies[-1].region,
    )
    charged = sum(result.charged or 0 for result in results if result.status is wire.EventStatus.ACCEPTED)
    flags = {flag: sum(flag in result.flags for result in results) for flag in wire.EventFlag}
    shown = facts(
        accepted=f"{told.accepted:,}",
        known_already=f"{told.duplicates:,}",
        refused=f"{told.refused:,}",
        charged=f"{charged:,}",
        unusual=", ".join(f"{flag.value} {count:,}" for flag, count in flags.items() if count) or "nothing",
        accepted_in=told.region,
    )
    refused = [(result.id or "–", result.problem) for result in results if result.problem is not None]
    _show(node, told, shown, refused)


def batch(node: Node, file: File) -> None:
    """Carry out many operations, each with its own key. Exits with 1 if any was refused."""
    operations = read(file)
    replies = _sent(operations, "operations", lambda part: node.ask(lambda client: client.batch(part)))
    results = [result for reply in replies for result in reply.results]
    told = wire.BatchReply(
        results=results,
        accepted=sum(reply.accepted for reply in replies),
        refused=sum(reply.refused for reply in replies),
        region=replies[-1].region,
    )
    shown = facts(
        accepted=f"{told.accepted:,}",
        of_them_again=f"{sum(result.replayed for result in results):,}",
        refused=f"{told.refused:,}",
        accepted_in=told.region,
    )
    refused = [
        (str(operation.get("key", "–")), result.problem)
        for operation, result in zip(operations, results, strict=True)
        if result.problem is not None
    ]
    _show(node, told, shown, refused)


def read(file: str) -> list[dict[str, Any]]:
    """The objects in a file. Raises `Stop`."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        lines = content.lstrip()
        if lines[:1] == b"[":
            found = msgspec.json.decode(lines, type=list[dict[str, Any]])
        else:
            found = msgspec.json.Decoder(dict[str, Any]).decode_lines(lines)
    except OSError as error:
        raise Stop(USAGE, f"{file}: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise Stop(USAGE, f"{file}: neither a JSON list nor one object to a line: {error}") from None
    if not found:
        raise Stop(USAGE, f"{file}: there is nothing in it")
    return found


def _sent(items: Sequence[dict[str, Any]], what: str, send: Callable[[Sequence[dict[str, Any]]], T]) -> list[T]:
    replies: list[T] = []
    with Teller() as teller:
        for start, part in _parts(items):
            replies.append(send(part))
            if len(items) > AT_ONCE:
                teller.count(what, start + len(part), len(items))
    return replies


def _parts(items: Sequence[dict[str, Any]]) -> Iterator[tuple[int, Sequence[dict[str, Any]]]]:
    for start in range(0, len(items), AT_ONCE):
        yield start, items[start : start + AT_ONCE]


def _show(node: Node, reply: msgspec.Struct, shown: Table, refused: list[tuple[str, dict[str, Any]]]) -> None:
    if node.output is Format.JSON:
        print_json(reply)
    else:
        console().print(shown)
        if refused:
            console().print(_refusals(refused))
    if refused:
        raise Stop(REFUSED, f"{len(refused):,} refused")


def _refusals(refused: list[tuple[str, dict[str, Any]]]) -> Table:
    shown = table("refused", "why")
    for name, problem in refused[:MOST_SHOWN]:
        shown.add_row(name, str(problem.get("detail") or problem.get("title")))
    if len(refused) > MOST_SHOWN:
        shown.add_row("…", f"and {len(refused) - MOST_SHOWN:,} more: -o json shows all")
    return shown
