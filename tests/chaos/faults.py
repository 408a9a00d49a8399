"""Every fault that a cluster on one machine can be made to suffer, each for a while, one after the other by seed.

Three hands work at the same time: one at the links, one at the processes and disks, one at the clocks. Each goes
through all the faults that it knows in an order that it draws, and then again. Hands do not get in each other's way:
whoever needs a node to answer waits until no other hand has it, and a disk is only taken away when everything that its
region has acknowledged is known elsewhere, for otherwise it would be lost rightly.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from creditmesh.errors import CreditmeshError
from creditmesh.testing import ClusterFailure, LocalCluster
from tests.chaos.load import Load

Say = Callable[[str], None]
Fault = Callable[[], Awaitable[None]]

KNOWN_ELSEWHERE_S: Final = 60.0
STALLING_S: Final = (0.3, 5.0)
"""Shorter and longer than the 2 s after which a node takes a silent link for dead."""


class Hand:
    """One of those who break things. What it has done stands in ``done``."""

    def __init__(self, name: str, rng: random.Random, faults: Mapping[str, Fault]) -> None:
        self.name = name
        self._rng = rng
        self._faults = faults
        self.done: Counter[str] = Counter(dict.fromkeys(faults, 0))

    async def work(self, over: asyncio.Event) -> None:
        """Break one thing after the other until it is `over`, and everything at least once."""
        while not over.is_set():
            for kind in self._rng.sample(list(self._faults), len(self._faults)):
                if over.is_set() and all(self.done.values()):
                    return
                await self._faults[kind]()
                self.done[kind] += 1
                await asyncio.sleep(self._rng.uniform(0.0, 0.6))


class Faults:
    """What can be done to a cluster that is under load."""

    def __init__(self, cluster: LocalCluster, load: Load, rng: random.Random, say: Say) -> None:
        self._cluster = cluster
        self._load = load
        self._rng = rng
        self._say = say
        self._whole = {region: asyncio.Lock() for region in cluster.regions}
        """Held by the hand at processes that has a node down, or by the one at clocks that sets a node's."""
        self._linked = asyncio.Lock()
        """Held while links are broken, or must not be."""
        self._backups: dict[str, Path] = {}

    def hands(self) -> list[Hand]:
        """All three."""
        links: dict[str, Fault] = {
            "cut off": self._cut_off, "ring or bridge": self._cut_pair, "one-way stall": self._stall_one_way,
            "delay": self._delay, "corruption": self._corrupt, "connections lost": self._drop, "flapping": self._flap,
        }  # fmt: skip
        nodes: dict[str, Fault] = {
            "kill": self._kill, "restart": self._restart, "pause": self._pause, "all killed": self._kill_all,
            "backup restored": self._restore_backup, "disk lost": self._lose_disk,
        }  # fmt: skip
        clocks: dict[str, Fault] = {"clock skewed": self._skew, "clock steps": self._step, "clock frozen": self._freeze}
        return [
            Hand(name, random.Random(self._rng.random()), faults)
            for name, faults in (("links", links), ("nodes", nodes), ("clocks", clocks))
        ]

    # -- links ------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _broken(self, what: str) -> AsyncIterator[None]:
        """The block breaks links; after a while they are healed."""
        async with self._linked:
            yield
            for_s = self._rng.uniform(*STALLING_S)
            self._say(f"{what} for {for_s:.1f} s")
            await asyncio.sleep(for_s)
            await self._cluster.heal()

    async def _cut_off(self) -> None:
        region = self._any_region()
        async with self._broken(f"{region} is cut off"):
            await self._cluster.cut(region)

    async def _cut_pair(self) -> None:
        one, other = self._any_pair()
        async with self._broken(f"{one} and {other} are cut off from each other"):
            await self._cluster.cut(one, [other])

    async def _stall_one_way(self) -> None:
        sender, receiver = self._any_pair()
        async with self._broken(f"nothing gets from {sender} to {receiver}"):
            await self._cluster.cut_one_way(sender, receiver)

    async def _delay(self) -> None:
        region, ms = self._any_region(), self._rng.uniform(20, 400)
        async with self._broken(f"all that goes to and from {region} takes {ms:.0f} to {2 * ms:.0f} ms"):
            await self._cluster.delay(region, ms=ms, jitter_ms=ms)

    async def _corrupt(self) -> None:
        region, probability = self._any_region(), self._rng.choice([0.05, 0.5])
        async with self._broken(f"one chunk in {1 / probability:.0f} to and from {region} has a flipped bit"):
            await self._cluster.corrupt(region, probability=probability)

    async def _drop(self) -> None:
        region = self._any_region()
        self._say(f"all connections of {region} are lost")
        await self._cluster.drop(region)

    async def _flap(self) -> None:
        region, times, every_s = self._any_region(), self._rng.randint(3, 10), self._rng.uniform(0.05, 0.5)
        self._say(f"the connections of {region} are lost {times} times, every {every_s:.2f} s")
        await self._cluster.flap(region, times=times, every_seconds=every_s)

    # -- processes and disks ----------------------------------------------------------------------------------------

    async def _kill(self) -> None:
        region, down_s = self._any_region(), self._rng.uniform(0, 2)
        async with self._whole[region]:
            self._say(f"{region} is killed, and started {down_s:.1f} s later")
            await self._cluster.kill(region)
            await asyncio.sleep(down_s)
            await self._cluster.start(region)

    async def _kill_all(self) -> None:
        async with self._all_whole():
            self._say("all nodes are killed and started")
            for region in self._cluster.regions:
                await self._cluster.kill(region)
            await self._cluster.start()

    async def _restart(self) -> None:
        region = self._any_region()
        async with self._whole[region]:
            self._say(f"{region} is stopped and started")
            await self._cluster.restart(region)

    async def _pause(self) -> None:
        region, for_s = self._any_region(), self._rng.uniform(*STALLING_S)
        async with self._whole[region]:
            self._say(f"{region} stands still for {for_s:.1f} s")
            self._cluster.pause(region)
            await asyncio.sleep(for_s)
            self._cluster.resume(region)

    async def _restore_backup(self) -> None:
        """Of a backup made at the same time one round ago, or of one that is a little older than the restore."""
        region = self._any_region()
        async with self._whole[region]:
            if region not in self._backups:
                self._backups[region] = await self._cluster.backup(region)
                self._say(f"{region} is backed up")
                await asyncio.sleep(self._rng.uniform(0.5, 3))
        backup = self._backups.pop(region)
        async with self._known_elsewhere(region):
            self._say(f"{region} goes back to its backup {backup.name}")
            await self._cluster.restore_backup(region, backup)

    async def _lose_disk(self) -> None:
        region = self._any_region()
        async with self._known_elsewhere(region):
            self._say(f"{region} loses its disk")
            await self._cluster.lose_disk(region)

    # -- clocks -----------------------------------------------------------------------------------------------------

    async def _skew(self) -> None:
        region, offset_ms = self._any_region(), self._rng.randint(-6_000, 6_000)
        await self._with_clock(region, f"the clock of {region} is {offset_ms:+,} ms off", [offset_ms])

    async def _step(self) -> None:
        region = self._any_region()
        steps = [self._rng.randint(-4_000, 4_000) for _ in range(self._rng.randint(2, 4))]
        await self._with_clock(
            region, f"the clock of {region} steps: {', '.join(f'{ms:+,}' for ms in steps)} ms", steps
        )

    async def _freeze(self) -> None:
        region = self._any_region()
        for_s = self._rng.uniform(*STALLING_S)
        async with self._whole[region]:
            self._say(f"the clock of {region} stands still for {for_s:.1f} s")
            await self._cluster.freeze_clock(region)
        await asyncio.sleep(for_s)
        await self._right(region)

    async def _with_clock(self, region: str, what: str, offsets_ms: Sequence[int]) -> None:
        self._say(what)
        for offset_ms in offsets_ms:
            async with self._whole[region]:
                await self._cluster.skew(region, offset_ms)
            await asyncio.sleep(self._rng.uniform(0.5, 3))
        await self._right(region)

    async def _right(self, region: str) -> None:
        async with self._whole[region]:
            await self._cluster.right_clock(region)

    # -- who, and when ----------------------------------------------------------------------------------------------

    def _any_region(self) -> str:
        return self._rng.choice(self._cluster.regions)

    def _any_pair(self) -> tuple[str, str]:
        one, other = self._rng.sample(self._cluster.regions, 2)
        return one, other

    @asynccontextmanager
    async def _all_whole(self) -> AsyncIterator[None]:
        for region in self._cluster.regions:
            await self._whole[region].acquire()
        try:
            yield
        finally:
            for lock in self._whole.values():
                lock.release()

    @asynccontextmanager
    async def _known_elsewhere(self, region: str) -> AsyncIterator[None]:
        """Nobody asks the region, and all that it has acknowledged is on another region's disk.

        No clock is wrong then: entries from one that is far ahead would not be taken.
        """
        async with self._linked, self._all_whole(), self._load.gates[region].closed():
            for each in self._cluster.regions:
                await self._cluster.right_clock(each)
            target = (await self._cluster.client(region).cluster()).clock
            try:
                async with asyncio.timeout(KNOWN_ELSEWHERE_S):
                    while not await self._knows_all(region, target):
                        await asyncio.sleep(0.05)
            except TimeoutError:
                raise ClusterFailure(f"no region has learnt all of {region} in {KNOWN_ELSEWHERE_S:.0f} s") from None
            yield

    async def _knows_all(self, region: str, target: Mapping[str, int]) -> bool:
        for other in self._cluster.regions:
            if other != region:
                try:
                    clock = (await self._cluster.client(other).cluster()).clock
                except CreditmeshError:
                    continue
                if all(clock.get(replica, 0) >= count for replica, count in target.items()):
                    return True
        return False
