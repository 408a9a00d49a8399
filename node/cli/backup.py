"""``creditmesh backup``, ``restore``, ``verify``: copies of a region's store, made and looked at where they lie."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from msgspec import Struct
from rich.text import Text

from node.cli.exits import REFUSED, Stop
from node.cli.output import Format, amount, console, facts, print_json, table
from node.cli.reach import DEFAULT_CONFIG, Config, Data
from node.config import NodeConfig, load

T = TypeVar("T")

Region = Annotated[str, typer.Option("--region", "-r", help="Whose store.", show_default=False)]
Output = Annotated[Format, typer.Option("--output", "-o", help="For people, or for programs.")]


class Copied(Struct):
    """What a command has written, for programs."""

    region: str
    directory: str
    bytes: int


class Verified(Struct):
    """What is known of a store, for programs."""

    region: str
    directory: str
    ok: bool
    entries: int
    logs: dict[str, int]
    tenants: int
    unsettled_tenants: int
    digest: str
    findings: list[str]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    for command in (backup, restore, verify):
        app.command()(command)


def backup(
    directory: Annotated[Path, typer.Argument(help="An empty or a new directory.", show_default=False)],
    *,
    region: Region,
    config: Config = DEFAULT_CONFIG,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Copy a region's store, whether its node runs or not, as it was at one commit."""
    from node.store.backup import back_up  # the store is not loaded for other commands

    node = load(config, data).node(region)
    size = _on_disk(node, lambda ours: back_up(node.region.data, directory, ours))
    _tell(output, "backed up into", Copied(region, str(directory), size))


def restore(
    directory: Annotated[Path, typer.Argument(help="A backup.", show_default=False)],
    *,
    region: Region,
    config: Config = DEFAULT_CONFIG,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a region's store from a backup. Its node must be stopped, and its old store moved away.

    What the backup lacks comes back from the other regions, but for what none of them had received.
    """
    from node.store.backup import restore as restore_store

    node = load(config, data).node(region)
    size = _on_disk(node, lambda ours: restore_store(directory, node.region.data, ours))
    _tell(output, "restored into", Copied(region, str(node.region.data), size))


def verify(
    directory: Annotated[
        Path | None, typer.Argument(help="A backup. Default: the region's own store.", show_default=False)
    ] = None,
    *,
    region: Region,
    config: Config = DEFAULT_CONFIG,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Check a backup, or the store of a node that is stopped, from its first entry. Exit code 1 if it is not sound."""
    from node.verify import verify as verify_store

    node = load(config, data).node(region)
    place = node.region.data if directory is None else directory
    found, digest = _on_disk(node, lambda _: verify_store(node, place))
    verified = Verified(
        region=region,
        directory=str(place),
        ok=found.ok,
        entries=found.entries,
        logs={name: log.entries for name, log in sorted(found.logs.items())},
        tenants=found.tenants,
        unsettled_tenants=found.unsettled_tenants,
        digest=digest,
        findings=found.findings,
    )
    if output is Format.JSON:
        print_json(verified)
    else:
        _show(verified)
    if not found.ok:
        raise Stop(REFUSED, f"{place}: {len(found.findings)} faults were found")


def _show(verified: Verified) -> None:
    logs = table("log", "entries#")
    for replica, entries in verified.logs.items():
        logs.add_row(replica, amount(entries))
    console().print(
        facts(
            store=Text("is sound", style="bold green") if verified.ok else Text("NOT SOUND", style="bold red"),
            directory=verified.directory,
            region=verified.region,
            entries=f"{verified.entries:,}",
            tenants=f"{verified.tenants:,}",
            to_be_compensated=f"{verified.unsettled_tenants:,}",
            digest=verified.digest,
        ),
        logs,
        *(Text(finding, style="red") for finding in verified.findings),
        sep="\n",
    )


def _tell(output: Format, done: str, copied: Copied) -> None:
    if output is Format.JSON:
        print_json(copied)
    else:
        console().print(f"{copied.region}: {copied.bytes:,} bytes {done} {copied.directory}", soft_wrap=True)


def _on_disk(node: NodeConfig, work: Callable[[Mapping[bytes, bytes]], T]) -> T:
    """What comes of work on a store, given whose it must be. Raises `Stop` for what is wrong with a directory."""
    from node.store.errors import StorageError
    from node.store.lmdb_file import identity

    try:
        return work(identity(node.cluster, node.region.name))
    except StorageError as error:
        raise Stop(REFUSED, str(error)) from error
