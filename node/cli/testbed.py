"""A cluster to show things on: three regions on free ports of this machine, in one directory, links that can be cut."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from creditmesh import AsyncClient, wire
from creditmesh.testing import free_ports
from node.cli.children import Children, OnLine, serve_options
from node.cli.exits import INTERRUPTED, REFUSED, Stop
from node.cli.progress import Teller
from node.cli.reach import url_of
from node.config import ClusterConfig, load

REGIONS: Final = ("us-east", "eu-west", "ap-south")
LAST_WORDS: Final = 5
"""Lines of a dead node's log that are shown."""


SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Testbed:
    """A running cluster, and a client for each region."""

    cluster: ClusterConfig
    clients: Mapping[str, AsyncClient]

    async def set_links(self, region: str, state: wire.LinkState) -> None:
        """Cuts or heals a region's links to all others."""
        for peer in self.clients:
            if peer != region:
                await self.clients[region].set_link(peer, state)


def write_config(place: Path) -> Path:
    """A cluster.toml in `place`, with addresses that are free now."""
    ports = free_ports(2 * len(REGIONS))
    lines = ["[cluster]", 'id = "demo"', "", "[chaos]", "enabled = true"]
    for region, port, peer_port in zip(REGIONS, ports[::2], ports[1::2], strict=True):
        lines += ["", "[[region]]", f'name = "{region}"', f'listen = "127.0.0.1:{port}"']
        lines += [f'peer_listen = "127.0.0.1:{peer_port}"', f'data = "{region}"']
    path = place / "cluster.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@asynccontextmanager
async def testbed(place: Path, teller: Teller) -> AsyncIterator[Testbed]:
    """Runs the cluster for as long as the block; what the nodes print goes to ``<region>.log``.

    If a node dies, the block is cancelled and `Stop` raised with the node's last words.
    """
    config = write_config(place)
    cluster = load(config)
    async with AsyncExitStack() as stack:
        logs = {region: stack.enter_context((place / f"{region}.log").open("w")) for region in REGIONS}
        children = Children(cluster, serve_options(config, None, chaos=False), _writer(logs))
        stack.push_async_callback(children.stop)
        await children.start()
        async with _watched(children, place):
            await children.until_ready()
            running = ", ".join(f"{region} (pid {pid})" for region, pid in children.pids.items())
            teller.say(f"three nodes are up: {running}")
            clients = {
                region.name: await stack.enter_async_context(AsyncClient(url_of(region))) for region in cluster.regions
            }
            yield Testbed(cluster, clients)


def _writer(logs: Mapping[str, TextIO]) -> OnLine:
    def write(region: str, line: str) -> None:
        logs[region].write(line + "\n")
        logs[region].flush()

    return write


@asynccontextmanager
async def _watched(children: Children, place: Path) -> AsyncIterator[None]:
    """Cancels the block if a node dies, and says which; and on a signal, so that no node is left behind."""
    body = asyncio.current_task()
    assert body is not None
    ended: list[Stop] = []

    def end(why: Stop) -> None:
        ended.append(why)
        body.cancel()

    def died(task: asyncio.Task[tuple[str, int]]) -> None:
        if not task.cancelled():
            region, code = task.result()
            said = " / ".join((place / f"{region}.log").read_text().splitlines()[-LAST_WORDS:])
            end(Stop(REFUSED, f"the node of {region} ended with exit code {code}; its last words: {said}"))

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, end, Stop(INTERRUPTED, "interrupted"))
    watching = asyncio.create_task(children.until_one_dies())
    watching.add_done_callback(died)
    try:
        yield
    except asyncio.CancelledError:
        if not ended:
            raise
        body.uncancel()
        raise ended[0] from None
    finally:
        watching.cancel()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
