"""``creditmesh serve``: one region's node; ``creditmesh up``: all regions of a cluster on this machine."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer
from msgspec import structs
from rich.console import Console
from rich.text import Text

from node.cli.children import Children, serve_options
from node.cli.exits import REFUSED, Stop
from node.cli.output import console, table
from node.cli.reach import DEFAULT_CONFIG, Config, Data, url_of
from node.config import ChaosSection, ClusterConfig, load

LANE_STYLES = ("cyan", "magenta", "yellow", "green", "blue")

Chaos = Annotated[bool, typer.Option("--chaos", help="Let `creditmesh chaos` break things. Never in production.")]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    app.command()(up)
    app.command()(serve)


def serve(
    *,
    region: Annotated[str, typer.Option("--region", "-r", help="Which region's node.", show_default=False)],
    config: Config = DEFAULT_CONFIG,
    data: Data = None,
    chaos: Chaos = False,
) -> None:
    """Run the node of one region until it is told to stop."""
    node = load(config, data).node(region)
    if chaos:
        node = structs.replace(node, chaos=ChaosSection(enabled=True))
    from node.process import serve as serve_node  # the store and the server are not loaded for other commands

    code = serve_node(node)
    if code:
        raise typer.Exit(code)


def up(*, config: Config = DEFAULT_CONFIG, data: Data = None, chaos: Chaos = False) -> None:
    """Run all regions of the cluster on this machine until Ctrl-C."""
    cluster = load(config, data)
    asyncio.run(_up(cluster, config, Children(cluster, serve_options(config, data, chaos=chaos), Relay(cluster))))


async def _up(cluster: ClusterConfig, config: Path, children: Children) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told.set)
    out = console(stderr=True)
    stopping = asyncio.create_task(told.wait())
    try:
        await children.start()
        dying = asyncio.create_task(children.until_one_dies())
        starting = asyncio.create_task(children.until_ready())
        await asyncio.wait({stopping, dying, starting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            _say_what_runs(out, cluster, config, children.pids)
            await asyncio.wait({stopping, dying}, return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        dying.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        if dying.done() and not dying.cancelled():
            region, code = dying.result()
            raise Stop(REFUSED, f"the node of {region} ended with exit code {code}; the others are stopped")
        out.print(Text("stopping", style="dim"))
    finally:
        stopping.cancel()
        for region in await children.stop():
            out.print(f"{region} did not stop and was killed")


def _say_what_runs(out: Console, cluster: ClusterConfig, config: Path, pids: dict[str, int]) -> None:
    shown = table("region", "clients", "peers", "data", "pid#")
    for region in cluster.regions:
        shown.add_row(region.name, url_of(region), str(region.peer_listen), _short(region.data), str(pids[region.name]))
    out.print(shown)
    first, *others = cluster.regions
    at = "" if config == DEFAULT_CONFIG else f" --config {config}"
    out.print("Try, in another terminal:")
    out.print(f"  creditmesh grant acme 10000 --expires 30d{at}")
    out.print(f"  creditmesh reserve acme 600 --lease 10m --region {(others or [first])[0].name}{at}")
    out.print(f"  creditmesh balance acme{at}")
    out.print(f"  curl {url_of(first)}/v1/tenants/acme/balance")
    out.print("Ctrl-C stops all regions.")


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


class Relay:
    """Shows the lines of each node behind its region's name."""

    def __init__(self, cluster: ClusterConfig) -> None:
        regions = [region.name for region in cluster.regions]
        width = max(len(region) for region in regions)
        self._heads = {
            region: Text(f"{region:<{width}} │ ", style=LANE_STYLES[index % len(LANE_STYLES)])
            for index, region in enumerate(regions)
        }
        self._out = console(stderr=True)

    def __call__(self, region: str, line: str) -> None:
        """Shows one line."""
        self._out.print(self._heads[region] + Text.from_ansi(line), soft_wrap=True)
