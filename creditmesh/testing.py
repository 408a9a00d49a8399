"""A cluster on this machine for tests of what uses creditmesh: real nodes, real disks, real sockets, real faults.

    async with LocalCluster(["us-east", "eu-west"]) as cluster:
        await cluster.start()
        await cluster.cut("us-east")
        ...
        await cluster.heal("us-east")
        await cluster.converged()

Each region is a process of its own with its own directory. Links are cut at the node, in both directions, through the
chaos endpoint that only such a cluster opens.
"""

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self

from creditmesh.client import AsyncClient
from creditmesh.errors import CreditmeshError
from creditmesh.wire import ClusterReply, LinkState

POLL_SECONDS: Final = 0.05
PORTS: Final = (12_000, 32_000)


class ClusterFailure(AssertionError):
    """The cluster did not do in time what was expected of it; says what it did instead."""


class LocalCluster:
    """Regions on loopback, each a process running ``creditmesh serve``."""

    def __init__(self, regions: Sequence[str], root: Path | None = None, settings: str = "") -> None:
        """Prepare a cluster; `root` is where its directories lie (a temporary one, if None), `settings` is TOML that
        is added to its configuration, such as ``[timing]`` with other intervals."""
        self.regions = tuple(regions)
        self._settings = settings
        self._given_root = root
        self._stack = AsyncExitStack()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._clients: dict[str, AsyncClient] = {}
        self.urls: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        root = self._given_root
        if root is None:
            root = Path(self._stack.enter_context(TemporaryDirectory(prefix="creditmesh-")))
        self.root = root
        self.config = root / "cluster.toml"
        ports = free_ports(2 * len(self.regions))
        sections = ['[cluster]\nid = "local"\n']
        for region, port, peer_port in zip(self.regions, ports[::2], ports[1::2], strict=True):
            self.urls[region] = f"http://127.0.0.1:{port}"
            sections.append(
                f'[[region]]\nname = "{region}"\nlisten = "127.0.0.1:{port}"\n'
                f'peer_listen = "127.0.0.1:{peer_port}"\ndata = "{region}"\n'
            )
        sections.append("[chaos]\nenabled = true\n")
        self.config.write_text("\n".join([*sections, self._settings]))
        for region, url in self.urls.items():
            self._clients[region] = await self._stack.enter_async_context(AsyncClient(url))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for region in list(self._processes):
                await self.kill(region)
        finally:
            await self._stack.aclose()

    def client(self, region: str) -> AsyncClient:
        """A client of one region's node, open until the cluster is left."""
        return self._clients[region]

    def log_of(self, region: str) -> str:
        """What the node of a region has said so far, in all its boots."""
        path = self.root / f"{region}.log"
        return path.read_text() if path.exists() else ""

    # -- nodes ------------------------------------------------------------------------------------------------------

    async def start(self, *regions: str) -> None:
        """Start the nodes of `regions` (all, if none is named) and wait until they take writes."""
        for region in regions or self.regions:
            with (self.root / f"{region}.log").open("ab") as log:
                self._processes[region] = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "node.cli", "serve", "--region", region, "--config", str(self.config)),
                    stdout=log,
                    stderr=log,
                )
        for region in regions or self.regions:
            await self._until_ready(region)

    async def stop(self, region: str) -> int:
        """Stop a node as an operator would; returns its exit code."""
        process = self._processes.pop(region)
        process.terminate()
        return await process.wait()

    async def kill(self, region: str) -> None:
        """Kill a node with SIGKILL, wherever it is."""
        process = self._processes.pop(region)
        if process.returncode is None:
            process.kill()
        await process.wait()

    def pause(self, region: str) -> None:
        """Stop a node's process where it stands (SIGSTOP)."""
        os.kill(self._processes[region].pid, signal.SIGSTOP)

    def resume(self, region: str) -> None:
        """Let a paused node go on."""
        os.kill(self._processes[region].pid, signal.SIGCONT)

    async def _until_ready(self, region: str, timeout_seconds: float = 30.0) -> None:
        async with asyncio.timeout(timeout_seconds):
            while True:
                process = self._processes[region]
                if process.returncode is not None:
                    raise ClusterFailure(f"{region} ended with {process.returncode}: {self.log_of(region)[-2000:]}")
                try:
                    if (await self.client(region).ready()).ready:
                        return
                except CreditmeshError:
                    pass
                await asyncio.sleep(POLL_SECONDS)

    # -- links ------------------------------------------------------------------------------------------------------

    async def cut(self, region: str, peers: Iterable[str] | None = None) -> None:
        """Cut the links of a region, at its node, to `peers` (all others, if None), in both directions."""
        await self._set_links(region, peers, LinkState.CUT)

    async def heal(self, region: str, peers: Iterable[str] | None = None) -> None:
        """Open the links again."""
        await self._set_links(region, peers, LinkState.OPEN)

    async def _set_links(self, region: str, peers: Iterable[str] | None, state: LinkState) -> None:
        for peer in peers if peers is not None else [other for other in self.regions if other != region]:
            await self.client(region).set_link(peer, state)

    async def converged(self, timeout_seconds: float = 30.0) -> ClusterReply:
        """Wait until all regions hold the same entries, owe no compensation, and show the same digest.

        Returns what the last region says of the cluster. Raises `ClusterFailure` with what they say if that takes
        longer than `timeout_seconds`.
        """
        running = [region for region in self.regions if region in self._processes]
        states: list[ClusterReply] = []
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    states = [await self.client(region).cluster(digest=True) for region in running]
                    same = all(state.clock == states[0].clock for state in states)
                    if same and not any(state.unsettled_tenants for state in states):
                        break
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            told = "\n".join(f"{state.region}: {state.clock}, {state.unsettled_tenants} unsettled" for state in states)
            raise ClusterFailure(f"not converged after {timeout_seconds} s:\n{told}") from None
        if len({state.digest for state in states}) != 1:
            raise ClusterFailure(
                "equal clocks, different digests: " + ", ".join(f"{s.region} {s.digest}" for s in states)
            )
        return states[-1]


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on now.

    From below those that the operating system gives to clients, so that none is taken before its server is up; drawn
    at random, so that clusters made at the same time seldom draw the same.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(*PORTS)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        if port not in ports:
            ports.append(port)
    return ports
