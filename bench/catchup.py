"""Catching up: how fast a region that was away applies what another one holds.

    python -m bench.catchup [--entries N] [--rounds N]

One region takes reservations alone; then the other starts, empty, and the time is taken until it holds them all. Both
nodes run on the same machine; quoted is the median over the rounds.
"""

import argparse
import asyncio
import time
from statistics import median
from typing import Final

import uvloop

from bench.load import run
from bench.reservations import address, grants, reservations
from creditmesh.testing import LocalCluster

CONNECTIONS: Final = 64
POLL_SECONDS: Final = 0.1


async def measure(entries: int, tenants: int) -> float:
    """Entries a second, from the first one applied to the last."""
    async with LocalCluster(["us-east", "eu-west"], proxied=False) as two:
        await two.start("us-east")
        host, port = address(two.urls["us-east"])
        await run(host, port, CONNECTIONS, grants(tenants))
        await run(host, port, CONNECTIONS, reservations(entries, tenants, 0))
        await two.start("eu-west")
        first_at, first_count = 0.0, 0
        while True:
            count = sum((await two.client("eu-west").cluster()).clock.values())
            now = time.perf_counter()
            if count and not first_count:
                first_at, first_count = now, count
            if count >= entries + tenants:
                return (count - first_count) / (now - first_at)
            await asyncio.sleep(POLL_SECONDS)


def main() -> None:
    """Print a row for each number of tenants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'tenants':>8} {'entries a second':>17}")
    for tenants in (1, 10_000):
        rates = [uvloop.run(measure(options.entries, tenants)) for _ in range(options.rounds)]
        print(f"{tenants:>8} {median(rates):>17,.0f}")


if __name__ == "__main__":
    main()
