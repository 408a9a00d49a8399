"""Real nodes for a measurement: processes of this project on free loopback ports, in a directory of their own."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


class Cluster:
    """The regions of one cluster, to be started and stopped one by one."""

    def __init__(self, root: Path, regions: list[str]) -> None:
        ports = iter(_free_ports(2 * len(regions)))
        self.config = root / "cluster.toml"
        self.ports = {region: next(ports) for region in regions}
        sections = [
            f'[[region]]\nname = "{region}"\nlisten = "127.0.0.1:{port}"\n'
            f'peer_listen = "127.0.0.1:{next(ports)}"\ndata = "{region}"\n'
            for region, port in self.ports.items()
        ]
        self.config.write_text('[cluster]\nid = "bench"\n' + "".join(sections))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, region: str) -> None:
        """Start a region's node and wait until it takes writes."""
        command = [sys.executable, "-m", "node.cli", "serve", "--region", region, "--config", str(self.config)]
        self._processes[region] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while True:
            try:
                self.get(region, "/readyz")
            except OSError:
                assert self._processes[region].poll() is None, f"{region} did not start"
                time.sleep(0.02)
            else:
                return

    def stop(self, region: str) -> None:
        """Stop a node cleanly."""
        process = self._processes.pop(region)
        process.terminate()
        process.wait()

    def get(self, region: str, path: str) -> Any:
        """A JSON reply."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[region]}{path}", timeout=60) as reply:
            return json.load(reply)

    def stop_all(self) -> None:
        """Stop what runs."""
        for region in list(self._processes):
            self.stop(region)


@contextmanager
def cluster(regions: list[str]) -> Iterator[Cluster]:
    """A cluster whose directory is gone afterwards. It lies beside the working directory, on a real disk."""
    with TemporaryDirectory(prefix="creditmesh-bench-", dir=".") as root:
        made = Cluster(Path(root).resolve(), regions)
        try:
            yield made
        finally:
            made.stop_all()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports
