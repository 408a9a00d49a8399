"""A shell beside a cluster as its reader has it: ``creditmesh up --chaos`` with the project's cluster.toml."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Final

from creditmesh import AsyncClient, CreditmeshError
from creditmesh.testing import free_ports

PROJECT: Final = Path(__file__).parents[2]
PAGE: Final = PROJECT / "docs" / "walkthrough.md"
_ASSIGNS: Final = re.compile(r"^([A-Z]+)=")
_SECONDS: Final = 60


class Session:
    """Runs commands, each when the cluster has come to rest after the one before."""

    def __init__(self, place: Path, urls: list[str]) -> None:
        self._place = place
        self._urls = urls
        self._assigned = ""
        self._is_cut = False

    def run(self, command: str) -> str:
        """What a command prints. Variables that it sets hold for those after it."""
        if not self._is_cut:
            asyncio.run(self._at_rest())
        assigns = _ASSIGNS.match(command)
        if assigns:
            value = self._shell(f'{command}printf %s "${assigns[1]}"')
            self._assigned += f"{assigns[1]}={quote(value)}\n"
            return ""
        if "chaos" in command:
            self._is_cut = " cut " in command
        return self._shell(command)

    def _shell(self, command: str) -> str:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/bash", "-c", self._assigned + command],
            cwd=self._place,
            env={"PATH": path, "HOME": str(self._place)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        return done.stdout

    async def _at_rest(self) -> None:
        """Wait until all regions answer, hold the same entries, and owe their books nothing."""
        async with asyncio.timeout(_SECONDS):
            while not await self._is_at_rest():
                await asyncio.sleep(0.05)

    async def _is_at_rest(self) -> bool:
        states = []
        for url in self._urls:
            async with AsyncClient(url) as client:
                try:
                    states.append(await client.cluster(digest=True))
                except CreditmeshError:
                    return False
        first = states[0]
        return all(
            (state.clock, state.digest, state.unsettled_tenants) == (first.clock, first.digest, 0) for state in states
        )


@contextmanager
def session(place: Path) -> Iterator[Session]:
    """A cluster in `place`, on addresses that are free, for as long as the block."""
    described = (PROJECT / "cluster.toml").read_text()
    addresses = re.findall(r"127\.0\.0\.1:(\d+)", described)
    ports = dict(zip(addresses, free_ports(len(addresses)), strict=True))
    for told, free in ports.items():
        described = described.replace(f"127.0.0.1:{told}", f"127.0.0.1:{free}")
    (place / "cluster.toml").write_text(described)
    urls = [
        f"http://127.0.0.1:{port}" for port in re.findall(r'^listen = "127\.0\.0\.1:(\d+)"', described, re.MULTILINE)
    ]
    with (place / "up.log").open("w") as log:
        program = Path(sys.executable).parent / "creditmesh"
        cluster = subprocess.Popen([program, "up", "--chaos"], cwd=place, stdout=log, stderr=log)
        try:
            yield Session(place, urls)
        finally:
            cluster.terminate()
            cluster.wait()
