"""The nodes of a cluster as child processes: started together, watched, and stopped together.

Each runs ``creditmesh serve`` in a session of its own, so that a Ctrl-C in the terminal reaches the parent alone, which
then stops them in order. What they print is handed over line by line.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from creditmesh import AsyncClient, CreditmeshError, Retry
from node.cli.exits import REFUSED, Stop
from node.cli.reach import url_of
from node.config import Address, ClusterConfig, RegionConfig

POLL_SECONDS: Final = 0.05
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
_LONGEST_LINE: Final = 1 << 20

OnLine = Callable[[str, str], None]
"""Told the region and a line that its node printed."""


class Children:
    """The processes of a cluster's regions."""

    def __init__(self, config: ClusterConfig, serve_options: Sequence[str], on_line: OnLine) -> None:
        """`serve_options` go to each ``creditmesh serve`` beside its region."""
        self.regions = config.regions
        self._options = serve_options
        self._on_line = on_line
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._relays: list[asyncio.Task[None]] = []

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by region."""
        return {region: process.pid for region, process in self._processes.items()}

    async def start(self) -> None:
        """Starts all nodes. Raises `Stop` if an address is taken: that is said once, before anything is started."""
        for region in self.regions:
            check_free(region)
        for region in self.regions:
            process = await asyncio.create_subprocess_exec(
                *command(region.name, self._options),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=_LONGEST_LINE,
                start_new_session=True,
            )
            self._processes[region.name] = process
            self._relays.append(asyncio.create_task(self._relay(region.name, process)))

    async def until_ready(self) -> None:
        """Returns when every node takes writes. Raises `Stop` with the reasons if that takes too long."""
        for region in self.regions:
            try:
                async with asyncio.timeout(START_SECONDS):
                    await _until_ready(url_of(region))
            except TimeoutError:
                raise Stop(REFUSED, f"{region.name} is not ready after {START_SECONDS:.0f} s") from None

    async def until_one_dies(self) -> tuple[str, int]:
        """The first region whose process ends, and its exit code."""
        waits = {asyncio.create_task(process.wait()): region for region, process in self._processes.items()}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        first = done.pop()
        return waits[first], first.result()

    async def stop(self) -> list[str]:
        """Stops all nodes; returns the regions whose process had to be killed."""
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        killed = []
        for region, process in self._processes.items():
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
                killed.append(region)
        await asyncio.gather(*self._relays)
        return killed

    async def _relay(self, region: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._on_line(region, line.decode(errors="replace").rstrip("\n"))


def command(region: str, options: Sequence[str]) -> list[str]:
    """The command line of one node."""
    return [sys.executable, "-m", "node.cli", "serve", "--region", region, *options]


def serve_options(config: Path, data: Path | None, *, chaos: bool) -> list[str]:
    """What ``serve`` is told beside its region."""
    place = [] if data is None else ["--data", str(data)]
    return ["--config", str(config), *place, *(["--chaos"] if chaos else [])]


def check_free(region: RegionConfig) -> None:
    """Raises `Stop` if another process listens where the region's node is to."""
    for key, address in (("listen", region.listen), ("peer_listen", region.peer_listen)):
        try:
            _take(address).close()
        except OSError as error:
            # Without the errno there is only text, such as of a host that is no address.
            reason = os.strerror(error.errno) if error.errno else str(error)
            line = f"region {region.name}: {key} {address}: {reason}; is the cluster running already?"
            raise Stop(REFUSED, line) from None


def _take(address: Address) -> socket.socket:
    return socket.create_server(address, family=socket.AF_INET6 if ":" in address.host else socket.AF_INET)


async def _until_ready(url: str) -> None:
    async with AsyncClient(url, retry=Retry(attempts=1, attempt_timeout_s=2.0)) as client:
        while True:
            try:
                if (await client.ready()).ready:
                    return
            except CreditmeshError:
                pass  # it does not listen yet
            await asyncio.sleep(POLL_SECONDS)
