"""``creditmesh rebuild``: give up what is damaged for good, and work the state out again from what is whole."""

import typer

from node.cli.backup import Region
from node.cli.exits import REFUSED, Stop
from node.cli.output import console
from node.cli.reach import DEFAULT_CONFIG, Config, Data
from node.config import load


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    app.command()(rebuild)


def rebuild(*, region: Region, config: Config = DEFAULT_CONFIG, data: Data = None) -> None:
    """Let a region's next start work out its state again from all entries that are whole. Its node must be stopped.

    Entries that are damaged are dropped; they come back from other regions, if any has them.
    """
    from node.rebuild import mark  # the store is not loaded for other commands
    from node.store.directory import DATA_FILE
    from node.store.errors import StorageError
    from node.store.lmdb_disk import LmdbDisk

    node = load(config, data).node(region)
    directory = node.region.data
    if not (directory / DATA_FILE).is_file():
        raise Stop(REFUSED, f"{directory}: holds no store; name the directory of a region that has been started")
    try:
        disk = LmdbDisk(directory, cluster=node.cluster, region=region, max_map_bytes=node.store.max_map_bytes)
        try:
            mark(disk.commit_now, "an operator asked for it")
        finally:
            disk.close()
    except StorageError as error:
        raise Stop(REFUSED, str(error)) from error
    console().print(f"{region}: will be rebuilt when its node starts", soft_wrap=True)
