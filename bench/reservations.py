"""Durable reservations over HTTP: one node, 64 connections, a hot tenant and many tenants.

    python -m bench.reservations [--requests N] [--connections N] [--rounds N]

The load generator runs beside the node. Quoted are the medians over the rounds.
"""

import argparse
import time
from collections.abc import Iterator
from statistics import median

import uvloop

from bench.load import Load, post, run
from creditmesh.testing import LocalCluster

REGION = "us-east"
BODY = b'{"amount":60,"lease_ms":3600000}'


def grants(tenants: int) -> Iterator[bytes]:
    """A large lot for each tenant."""
    expires_at = int(time.time() * 1000) + 86_400_000
    body = b'{"amount":1000000000000,"expires_at":%d}' % expires_at
    for tenant in range(tenants):
        yield post(f"/v1/tenants/t{tenant}/grants", f"grant-{tenant}", body)


def reservations(count: int, tenants: int, round_: int) -> Iterator[bytes]:
    """Reservations, the tenants in turn."""
    for number in range(count):
        yield post(f"/v1/tenants/t{number % tenants}/reservations", f"r{round_}-{number}", BODY)


async def measure(tenants: int, requests: int, connections: int, rounds: int) -> list[Load]:
    """A fresh node; one load a round, after one that is not counted."""
    async with LocalCluster([REGION], proxied=False) as one:
        await one.start()
        host, port = address(one.urls[REGION])
        await run(host, port, connections, grants(tenants))
        loads = [
            await run(host, port, connections, reservations(requests, tenants, round_)) for round_ in range(rounds + 1)
        ]
    return loads[1:]


def address(url: str) -> tuple[str, int]:
    """Host and port of a node."""
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def main() -> None:
    """Print a row for each number of tenants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'tenants':>8} {'a second':>10} {'p50 ms':>8} {'p99 ms':>8} {'unexpected':>10}")
    for tenants in (1, 10_000):
        loads = uvloop.run(measure(tenants, options.requests, options.connections, options.rounds))
        rate = median(load.rate for load in loads)
        middle, tail = (median(load.percentile(share) * 1000 for load in loads) for share in (0.5, 0.99))
        unexpected = sum(sum(load.unexpected.values()) for load in loads)
        print(f"{tenants:>8} {rate:>10,.0f} {middle:>8.2f} {tail:>8.2f} {unexpected:>10}")


if __name__ == "__main__":
    main()
