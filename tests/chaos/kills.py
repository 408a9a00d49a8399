"""kill −9, again and again, at any moment, under load: what was acknowledged is there afterwards, once, everywhere.

    python -m tests.chaos.kills --cycles 200 --seed 1

Each region has a killer of its own, so that often several nodes are down at once. One kill in five comes while the
node is starting. Every killed node is started again on what is on its disk.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from creditmesh.checker import examine
from creditmesh.errors import CreditmeshError
from creditmesh.history import Ending
from creditmesh.testing import ClusterFailure, LocalCluster
from tests.chaos.load import Load

REGIONS: Final = ("us-east", "eu-west", "ap-south")
LONGEST_LIFE_S: Final = 0.6
LONGEST_START_S: Final = 0.9
CLIENTS: Final = 4
PAUSE_S: Final = 0.02
TOLD_EVERY: Final = 20

SETTINGS: Final = """
[timing]
anti_entropy_interval_ms = 100
settle_after_ms = 200
settle_at_most_ms = 1000
checkpoint_after_ms = 300

[replication]
page_entries = 50
window_entries = 200

[memory]
tenants_in_memory = 5

[store]
min_free_bytes = 0
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    kills: Counter[str]
    """By what the node was doing: serving or starting."""
    acknowledged: int
    unanswered: int
    refused: int
    entries: int
    logs: int
    conflicts: int
    seconds: float
    findings: list[str]


class _Killers:
    """The killers of all regions, and what they have left to do."""

    def __init__(self, cluster: LocalCluster, cycles: int, rng: random.Random) -> None:
        self._cluster = cluster
        self._left = self._cycles = cycles
        self._rng = rng
        self.kills: Counter[str] = Counter()

    async def kill_all(self) -> None:
        """Returns when the last killed node takes writes again."""
        async with asyncio.TaskGroup() as group:
            for region in self._cluster.regions:
                group.create_task(self._kill_again_and_again(region, random.Random(self._rng.random())))

    async def _kill_again_and_again(self, region: str, rng: random.Random) -> None:
        cluster = self._cluster
        while self._left:
            self._left -= 1
            starting = rng.random() < 0.2
            if starting:
                await asyncio.sleep(rng.uniform(0, LONGEST_START_S))
            else:
                await cluster.ready(region)
                await asyncio.sleep(rng.uniform(0, LONGEST_LIFE_S))
            await cluster.kill(region)
            self.kills["starting" if starting else "serving"] += 1
            if self.kills.total() % TOLD_EVERY == 0:
                print(f"{self.kills.total()} of {self._cycles} kills", file=sys.stderr, flush=True)
            await cluster.launch(region)
        await cluster.ready(region)


async def run(cycles: int, seed: int, root: Path) -> Outcome:
    """Kill `cycles` times, let the regions come to rest, and look at everything."""
    rng = random.Random(seed)
    began = time.monotonic()
    async with LocalCluster(REGIONS, root, SETTINGS, seed=seed) as cluster:
        load = Load(cluster.urls, random.Random(rng.random()), clients_per_region=CLIENTS, pause_s=PAUSE_S)
        killers = _Killers(cluster, cycles, rng)
        await cluster.start()
        async with load.running():
            await killers.kill_all()
        await cluster.converged(60)
        examined = await examine(cluster.clients, load.records)
    endings = load.endings()
    log = examined.logs[REGIONS[0]]
    return Outcome(
        kills=killers.kills,
        acknowledged=endings[Ending.ACCEPTED],
        unanswered=endings[Ending.UNKNOWN],
        refused=endings[Ending.REFUSED],
        entries=len(log.kept),
        logs=len(log.clock),
        conflicts=len(examined.conflicts),
        seconds=time.monotonic() - began,
        findings=examined.findings,
    )


def main() -> int:
    """Print what a run came to; exit code 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="creditmesh-kills-"))
    try:
        outcome = asyncio.run(run(options.cycles, options.seed, root))
    except* (ClusterFailure, CreditmeshError, TimeoutError) as failures:
        for failure in failures.exceptions:
            traceback.print_exception(failure)
        print(f"NOT WELL: seed {options.seed}; nodes and logs are in {root}")
        sys.exit(1)
    print(
        f"seed {options.seed}: {outcome.kills.total()} kills in {outcome.seconds:.0f} s"
        f" ({outcome.kills['serving']} of nodes that served, {outcome.kills['starting']} of nodes that started);"
        f" {outcome.acknowledged:,} requests acknowledged, {outcome.unanswered:,} without an answer,"
        f" {outcome.refused:,} refused or not taken; {outcome.entries:,} entries in {outcome.logs} logs"
        f" in every region, {outcome.conflicts:,} conflicts; {len(outcome.findings)} findings"
    )
    for finding in outcome.findings:
        print(finding)
    if outcome.findings:
        print(f"NOT WELL: nodes and logs are in {root}")
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
