"""A cluster on this machine: every region a process of its own, with its own directory, ports and clock.

Regions reach each other through proxies (`creditmesh.testing.proxy`) in the process of the test, so whatever a network
can do to them is done here, without privileges and without their knowing. A method that takes `peers` means the links
of a region to these, or to all others if there are none named.

Files in the root: ``<region>/`` is a node's directory, ``<region>.log`` what it has said in all its boots,
``<region>.toml`` what it is told, ``cluster.toml`` the same cluster for the command line, without the proxies.
"""

import asyncio
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self

from creditmesh.client import AsyncClient
from creditmesh.errors import CreditmeshError
from creditmesh.testing.ports import free_ports
from creditmesh.testing.proxy import Flow, Link
from creditmesh.transport import Retry
from creditmesh.wire import ClusterReply

POLL_SECONDS: Final = 0.05
READY_SECONDS: Final = 30.0
ONCE: Final = Retry(attempts=1, attempt_timeout_s=10.0)


class ClusterFailure(AssertionError):
    """The cluster did not do in time what was expected of it; says what it did instead."""


class LocalCluster:
    """Regions on loopback, each a process running ``creditmesh serve``. Use it with ``async with``."""

    def __init__(
        self,
        regions: Sequence[str],
        root: Path | None = None,
        settings: str = "",
        *,
        seed: int = 0,
        proxied: bool = True,
    ) -> None:
        """Prepare a cluster.

        `root` is where its files lie (a temporary directory, if None). `settings` is TOML that is added to its
        configuration, such as ``[timing]`` with other intervals. `seed` decides what the proxies draw: which bits are
        flipped, how late each chunk is. With `proxied` false the regions are linked directly: nothing can be done to
        their links, and nothing slows them, which is for measuring.
        """
        self.regions = tuple(regions)
        self._settings = settings
        self._given_root = root
        self._rng = random.Random(seed)
        self._proxied = proxied
        self._stack = AsyncExitStack()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._clients: dict[str, AsyncClient] = {}
        self._probes: dict[str, AsyncClient] = {}
        self._peer_ports: dict[str, int] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._wrong_clocks: dict[str, tuple[int, bool]] = {}
        self._backups = 0
        self.urls: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        root = self._given_root
        if root is None:
            root = Path(self._stack.enter_context(TemporaryDirectory(prefix="creditmesh-")))
        self.root = root
        self.config = root / "cluster.toml"
        try:
            ports = free_ports(2 * len(self.regions))
            for region, port, peer_port in zip(self.regions, ports[::2], ports[1::2], strict=True):
                self.urls[region] = f"http://127.0.0.1:{port}"
                self._peer_ports[region] = peer_port
            await self._lay_links()
            self.config.write_text(self._described({}))
            for region, url in self.urls.items():
                self._clients[region] = await self._stack.enter_async_context(AsyncClient(url))
                self._probes[region] = await self._stack.enter_async_context(AsyncClient(url, retry=ONCE))
                through = {dialled: port for (dialler, dialled), port in self._ports.items() if dialler == region}
                self._config_of(region).write_text(self._described(through))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for region in list(self._processes):
                await self.kill(region)
        finally:
            await self._stack.aclose()

    async def _lay_links(self) -> None:
        """A proxy for each pair: of two regions the one whose name sorts first dials."""
        self._ports: dict[tuple[str, str], int] = {}
        if not self._proxied:
            return
        for dialler, dialled in _pairs(self.regions):
            link = Link(("127.0.0.1", self._peer_ports[dialled]), random.Random(self._rng.random()))
            self._stack.push_async_callback(link.close)
            self._links[dialler, dialled] = link
            self._ports[dialler, dialled] = await link.start()

    def _described(self, through: dict[str, int]) -> str:
        """A cluster.toml; `through` has the ports of the proxies by which peers are reached."""
        sections = ['[cluster]\nid = "local"\n']
        for region, url in self.urls.items():
            peer_port = through.get(region, self._peer_ports[region])
            sections.append(
                f'[[region]]\nname = "{region}"\nlisten = "{url.removeprefix("http://")}"\n'
                f'peer_listen = "127.0.0.1:{peer_port}"\ndata = "{region}"\n'
            )
        return "\n".join([*sections, "[chaos]\nenabled = true\n", self._settings])

    def _config_of(self, region: str) -> Path:
        return self.root / f"{region}.toml"

    def client(self, region: str) -> AsyncClient:
        """A client of one region's node, open until the cluster is left."""
        return self._clients[region]

    @property
    def clients(self) -> dict[str, AsyncClient]:
        """All of them, by region."""
        return dict(self._clients)

    def log_of(self, region: str) -> str:
        """What the node of a region has said so far, in all its boots."""
        path = self.root / f"{region}.log"
        return path.read_text() if path.exists() else ""

    # -- nodes ------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[str]:
        """The regions whose node has been started and neither stopped nor killed."""
        return [region for region in self.regions if region in self._processes]

    async def start(self, *regions: str) -> None:
        """Start the nodes of `regions` (all, if none is named) and wait until they take writes.

        A clock that was set wrong is set wrong again as soon as its node answers.
        """
        for region in regions or self.regions:
            await self.launch(region)
        for region in regions or self.regions:
            await self.ready(region)

    async def launch(self, region: str) -> None:
        """Start a node, and do not wait for it."""
        with (self.root / f"{region}.log").open("ab") as log:
            self._processes[region] = await asyncio.create_subprocess_exec(
                *(*CLI, "serve", "--region", region, "--config", str(self._config_of(region))),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def ready(self, region: str, timeout_seconds: float = READY_SECONDS) -> None:
        """Wait until a node that was launched takes writes. Raises `ClusterFailure` if it ends, or takes too long."""
        process = self._processes[region]
        try:
            async with asyncio.timeout(timeout_seconds):
                while not await self._is_ready(region):
                    if process.returncode is not None:
                        raise ClusterFailure(f"{region} ended with {process.returncode}: {self.log_of(region)[-2000:]}")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise ClusterFailure(
                f"{region} is not ready after {timeout_seconds:.0f} s: {self.log_of(region)[-2000:]}"
            ) from None
        if region in self._wrong_clocks:
            offset_ms, frozen = self._wrong_clocks[region]
            await self.client(region).set_clock(offset_ms=offset_ms, frozen=frozen)

    async def _is_ready(self, region: str) -> bool:
        try:
            return (await self._probes[region].ready()).ready
        except CreditmeshError:
            return False

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

    async def restart(self, region: str) -> None:
        """Stop a node as an operator would, and start it again."""
        await self.stop(region)
        await self.start(region)

    def pause(self, region: str) -> None:
        """Stop a node's process where it stands (SIGSTOP)."""
        os.kill(self._processes[region].pid, signal.SIGSTOP)

    def resume(self, region: str) -> None:
        """Let a paused node go on."""
        os.kill(self._processes[region].pid, signal.SIGCONT)

    # -- links ------------------------------------------------------------------------------------------------------

    async def cut(self, region: str, peers: Iterable[str] | None = None) -> None:
        """Cut the links of a region: nothing arrives in either direction until they are healed."""
        for link in self._links_of(region, peers):
            link.cut()

    async def cut_one_way(self, sender: str, receiver: str) -> None:
        """What `sender` says does not arrive at `receiver` any more; the other direction is left as it is."""
        self._flow(sender, receiver).stall()

    async def delay(
        self, region: str, peers: Iterable[str] | None = None, *, ms: float, jitter_ms: float = 0.0
    ) -> None:
        """Everything arrives `ms` to `ms` + `jitter_ms` later, in both directions."""
        for flow in self._flows_of(region, peers):
            flow.delay_ms, flow.jitter_ms = ms, jitter_ms

    async def corrupt(self, region: str, peers: Iterable[str] | None = None, *, probability: float) -> None:
        """Each chunk of up to 16 KiB arrives with one bit flipped, with this probability, in both directions."""
        for flow in self._flows_of(region, peers):
            flow.corruption = probability

    async def drop(self, region: str, peers: Iterable[str] | None = None) -> None:
        """End the connections there are. The nodes make new ones."""
        for link in self._links_of(region, peers):
            link.drop()

    async def flap(self, region: str, peers: Iterable[str] | None = None, *, times: int, every_seconds: float) -> None:
        """End the connections again and again; returns when that is over."""
        links = list(self._links_of(region, peers))
        for _ in range(times):
            for link in links:
                link.drop()
            await asyncio.sleep(every_seconds)

    async def heal(self, region: str | None = None, peers: Iterable[str] | None = None) -> None:
        """Make links as good as new (all of them, if no region is named); what was on the way arrives."""
        for link in self._links.values() if region is None else self._links_of(region, peers):
            link.heal()

    def link(self, one: str, other: str) -> Link:
        """The proxy between two regions."""
        return self._links[min(one, other), max(one, other)]

    def _flow(self, sender: str, receiver: str) -> Flow:
        link = self.link(sender, receiver)
        return link.forth if sender < receiver else link.back

    def _links_of(self, region: str, peers: Iterable[str] | None) -> Iterator[Link]:
        for peer in self._others(region) if peers is None else peers:
            yield self.link(region, peer)

    def _flows_of(self, region: str, peers: Iterable[str] | None) -> Iterator[Flow]:
        for link in self._links_of(region, peers):
            yield from (link.forth, link.back)

    def _others(self, region: str) -> list[str]:
        return [other for other in self.regions if other != region]

    # -- clocks -----------------------------------------------------------------------------------------------------

    async def skew(self, region: str, offset_ms: int) -> None:
        """Set a node's clock ahead of this machine's (behind, if negative): skewed, or a step from what it was."""
        await self._set_clock(region, offset_ms, frozen=False)

    async def freeze_clock(self, region: str) -> None:
        """Let a node's clock stand still, at what it shows."""
        await self._set_clock(region, self._wrong_clocks.get(region, (0, False))[0], frozen=True)

    async def right_clock(self, region: str) -> None:
        """Set a node's clock right again."""
        await self._set_clock(region, 0, frozen=False)

    async def _set_clock(self, region: str, offset_ms: int, *, frozen: bool) -> None:
        self._wrong_clocks.pop(region, None)
        if offset_ms or frozen:
            self._wrong_clocks[region] = offset_ms, frozen
        await self.client(region).set_clock(offset_ms=offset_ms, frozen=frozen)

    # -- disks ------------------------------------------------------------------------------------------------------

    def directory(self, region: str) -> Path:
        """Where a region's node keeps its store."""
        return self.root / region

    async def backup(self, region: str) -> Path:
        """Copy the store of a node, running or not; returns the backup's directory, in the cluster's root."""
        self._backups += 1
        path = self.root / "backups" / f"{region}-{self._backups}"
        await self._run("backup", "--region", region, "--config", str(self.config), str(path))
        return path

    async def restore_backup(self, region: str, backup: Path) -> None:
        """Kill a node, put a backup in the place of its store, and start it.

        What it had accepted since the backup, and no other region had received, is gone: that is what an old backup is.
        """
        if region in self._processes:
            await self.kill(region)
        store, replaced = self.directory(region), self.root / f"{region}.replaced"
        store.rename(replaced)
        try:
            await self._run("restore", "--region", region, "--config", str(self.config), str(backup))
        except ClusterFailure:
            replaced.rename(store)
            raise
        shutil.rmtree(replaced)
        await self.start(region)

    async def lose_disk(self, region: str) -> None:
        """Kill a node, take its store away, and start it with nothing."""
        if region in self._processes:
            await self.kill(region)
        shutil.rmtree(self.directory(region))
        await self.start(region)

    async def _run(self, *arguments: str) -> None:
        """Run a command of ``creditmesh``. Raises `ClusterFailure` with what it said if it fails."""
        process = await asyncio.create_subprocess_exec(
            *CLI, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        if process.returncode:
            raise ClusterFailure(f"creditmesh {arguments[0]}: {said.decode(errors='replace').strip()}")

    # -- agreement --------------------------------------------------------------------------------------------------

    async def converged(self, timeout_seconds: float = 30.0) -> ClusterReply:
        """Wait until all running regions hold the same entries, owe no compensation, and show the same digest.

        Returns what the last region says of the cluster. Raises `ClusterFailure` with what they say if that takes
        longer than `timeout_seconds`.
        """
        states: list[ClusterReply] = []
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    states = [await self.client(region).cluster(digest=True) for region in self.running]
                    same = all(state.clock == states[0].clock for state in states)
                    if same and not any(state.unsettled_tenants for state in states):
                        break
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise ClusterFailure(f"not converged after {timeout_seconds} s:\n{_disagreement(states)}") from None
        if len({state.digest for state in states}) != 1:
            raise ClusterFailure(
                "equal clocks, different digests: " + ", ".join(f"{s.region} {s.digest}" for s in states)
            )
        return states[-1]


CLI: Final = (sys.executable, "-m", "node.cli")


def _disagreement(states: Sequence[ClusterReply]) -> str:
    """What each region says, of the logs that they do not all have to the same end."""
    replicas = sorted({replica for state in states for replica in state.clock})
    differ = [name for name in replicas if len({state.clock.get(name, 0) for state in states}) > 1]
    return "\n".join(
        f"{state.region}: {sum(state.clock.values())} entries, {state.unsettled_tenants} tenants unsettled, "
        + ", ".join(f"{name} up to {state.clock.get(name, 0)}" for name in differ)
        for state in states
    )


def _pairs(regions: Iterable[str]) -> Iterator[tuple[str, str]]:
    for dialler in regions:
        for dialled in regions:
            if dialler < dialled:
                yield dialler, dialled
