"""Everything at once: clients in all regions, every fault that there is, by seed; then rest, and nothing may be wrong.

    python -m tests.chaos.soak --minutes 10 --seed 1

For so long, and until each has done all that it can at least once, three hands break links, nodes and clocks
(`tests.chaos.faults`) under the load of `tests.chaos.load`. Then everything is healed, and within a minute the regions
must hold the same entries, owe no compensation, show the same digest, report the same conflicts, and pass their audits;
and what clients were told must be so. A run in which some fault or some rare thing never happened has shown nothing,
and fails.

What happens is told on standard error as it happens; the summary goes to standard output. The seed decides what the
hands and the clients do, not when the machine does it: a run cannot be repeated exactly. The directory of a run that
failed is kept.
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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

from creditmesh.checker import examine
from creditmesh.errors import CreditmeshError
from creditmesh.history import Ending
from creditmesh.testing import ClusterFailure, LocalCluster
from tests.chaos.faults import Faults, Hand, Say
from tests.chaos.load import Load

REGIONS: Final = ("ap-south", "eu-west", "us-east")
CLIENTS: Final = 4
PAUSE_S: Final = 0.3
REST_S: Final = 60.0
ALARMS_EVERY_S: Final = 1.0
FORBIDDEN: Final = frozenset(
    {"fork", "difference-without-rival", "rules-differ", "wrong-cluster", "entry-too-long", "damaged-entry"}
)
"""Alarms that none of these faults excuses."""

SETTINGS: Final = """
[timing]
anti_entropy_interval_ms = 100
settle_after_ms = 200
settle_at_most_ms = 1500
checkpoint_after_ms = 300
max_clock_drift_ms = 3000

[replication]
page_entries = 200
window_entries = 1000

[memory]
tenants_in_memory = 5

[store]
min_free_bytes = 0
"""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a soak came to."""

    seed: int
    seconds: float
    faults: dict[str, int]
    rare: dict[str, int]
    """Things that faults should lead to, and how often they happened."""
    requests: dict[Ending, int]
    accepted: dict[str, int]
    """Requests by the kind of their entry."""
    alarms: Counter[str]
    conflicts: Counter[str]
    entries: int
    logs: int
    findings: list[str]

    @property
    def never(self) -> list[str]:
        """What should have happened and did not."""
        return [what for what, count in {**self.faults, **self.rare, **self.accepted}.items() if not count]

    @property
    def is_well(self) -> bool:
        """Whether everything happened and nothing is wrong."""
        return not self.findings and not self.never

    def lines(self) -> list[str]:
        """For people."""
        told = [f"soak of {self.seconds:.0f} s, seed {self.seed}", ""]
        told += _columns("faults", self.faults)
        told += _columns("what they led to", self.rare)
        told += _columns("requests", {ending.value: count for ending, count in self.requests.items()})
        told += _columns("accepted", self.accepted)
        told += _columns("alarms", self.alarms)
        told += _columns("conflicts", self.conflicts)
        told.append(f"every region holds the same {self.entries:,} entries in {self.logs} logs" * (not self.findings))
        told += [f"WRONG: {finding}" for finding in self.findings]
        told += [f"NEVER HAPPENED: {what}" for what in self.never]
        told.append("all is well" if self.is_well else "NOT WELL")
        return told


def _columns(title: str, counts: "dict[str, int] | Counter[str]") -> list[str]:
    return [title, *(f"  {what:<28}{count:>9,}" for what, count in counts.items()), ""]


class _Watch:
    """Gathers the nodes' alarms, which a node forgets when its process ends."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._seen: dict[tuple[str, str, str, str], int] = {}
        self.details: dict[str, str] = {}

    async def look(self) -> None:
        """Ask every node that answers."""
        for region, client in self._cluster.clients.items():
            with suppress(CreditmeshError, TimeoutError):
                async with asyncio.timeout(ALARMS_EVERY_S):
                    state = await client.cluster()
                for alarm in state.alarms:
                    self._seen[region, state.replica, alarm.kind, alarm.subject] = alarm.count
                    self.details.setdefault(alarm.kind, f"{alarm.subject} in {region}: {alarm.detail}")

    async def look_for_ever(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(ALARMS_EVERY_S)

    def counts(self) -> Counter[str]:
        """How often each kind of alarm was raised."""
        counts: Counter[str] = Counter()
        for (_, _, kind, _), count in self._seen.items():
            counts[kind] += count
        return counts


async def soak(seconds: float, seed: int, root: Path, say: Say) -> Summary:
    """Break things for so long, heal everything, and look. Raises `ClusterFailure` if the regions do not agree then."""
    rng = random.Random(seed)
    began = time.monotonic()
    async with LocalCluster(REGIONS, root, SETTINGS, seed=seed) as cluster:
        load = Load(cluster.urls, random.Random(rng.random()), clients_per_region=CLIENTS, pause_s=PAUSE_S)
        hands = Faults(cluster, load, rng, say).hands()
        watch = _Watch(cluster)
        await cluster.start()
        async with _watched(watch), load.running():
            await _break(hands, seconds)
            say("everything is healed")
            await cluster.heal()
            for region in REGIONS:
                await cluster.right_clock(region)
        say("clients have stopped; waiting until the regions agree")
        await cluster.converged(REST_S)
        say("they agree; reading every region's log")
        await watch.look()
        examined = await examine(cluster.clients, load.records)
        links = [cluster.link(one, other) for one, other in combinations(REGIONS, 2)]
        flipped = sum(link.forth.flipped + link.back.flipped for link in links)
    alarms = watch.counts()
    log = examined.logs[REGIONS[0]]
    conflicts = Counter(conflict.kind.value for conflict in examined.conflicts)
    return Summary(
        seed=seed,
        seconds=time.monotonic() - began,
        faults={kind: count for hand in hands for kind, count in hand.done.items()},
        rare={
            "bits flipped": flipped,
            "asked again elsewhere": load.asked_elsewhere,
            "first reply given again": load.replayed,
            "batches": load.batches,
            "never answered": load.endings()[Ending.UNKNOWN],
            "overspent": conflicts["overspend"],
            "accepted in two regions": conflicts["duplicate"],
            "clock-ahead alarms": alarms["clock-ahead"],
        },
        requests=load.endings(),
        accepted=load.accepted(),
        alarms=alarms,
        conflicts=conflicts,
        entries=len(log.kept),
        logs=len(log.clock),
        findings=[
            *examined.findings,
            *(f"alarm {kind}: {watch.details[kind]}" for kind in sorted(FORBIDDEN & alarms.keys())),
        ],
    )


@asynccontextmanager
async def _watched(watch: _Watch) -> AsyncIterator[None]:
    watching = asyncio.create_task(watch.look_for_ever())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _break(hands: list[Hand], seconds: float) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    async with asyncio.TaskGroup() as group:
        for hand in hands:
            group.create_task(hand.work(over))


def main() -> int:
    """Print the summary; exit code 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="creditmesh-soak-"))
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", file=sys.stderr, flush=True)

    say(f"seed {options.seed}, for {options.minutes:g} minutes, in {root}")
    again = f"python -m tests.chaos.soak --minutes {options.minutes:g} --seed {options.seed}"
    try:
        summary = asyncio.run(soak(60 * options.minutes, options.seed, root, say))
    except* (ClusterFailure, CreditmeshError, TimeoutError) as failures:
        for failure in failures.exceptions:
            traceback.print_exception(failure)
        print(f"NOT WELL: seed {options.seed}; nodes and logs are in {root}; the same faults again: {again}")
        sys.exit(1)
    print("\n".join(summary.lines()))
    if summary.is_well:
        shutil.rmtree(root)
        return 0
    print(f"nodes and logs are in {root}; the same faults again: {again}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
