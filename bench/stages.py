"""Where the microseconds of one request go: the node's own stages, timed one by one, on a real store.

    python -m bench.stages [--requests N]

What is not in here is aiohttp's and the kernel's part; `bench.reservations` has the whole.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from creditmesh import wire
from ledger.command import GrantCredit, Reserve
from ledger.ids import Key, TenantId
from ledger.refusal import Limits, Terms
from node.api.replies import reservation_reply
from node.api.requests import Body, idempotency_key
from node.region import Accepted, Region
from node.settings import RegionSettings
from node.store.kv import Overlay
from node.store.lmdb_disk import LmdbDisk
from replication.entry import open_sealed

BATCH: Final = 32
ROUNDS: Final = 5
START_MS: Final = 1_800_000_000_000
TENANT: Final = TenantId("acme")
BODY: Final = b'{"amount":60,"lease_ms":3600000}'


def microseconds(count: int, work: Callable[[], None]) -> float:
    """How long one of the `count` things that `work` does takes."""
    begun_at = time.perf_counter()
    work()
    return (time.perf_counter() - begun_at) / count * 1e6


class Stages:
    """One node's region over a store, and another one that catches up."""

    def __init__(self, root: Path, count: int) -> None:
        self.count = count
        self.now = START_MS
        self._disks = {name: LmdbDisk(root / name, cluster="bench", region=name) for name in ("here", "there")}
        self.here, self.there = (self._region(name) for name in self._disks)
        self.here.submit(TENANT, GrantCredit(10**15, self.now + 10**10), Key("grant"), self.now)
        self.commit(self.here)
        self._number = 0
        self.accepted: list[Accepted] = []

    def _region(self, name: str) -> Region:
        settings = RegionSettings(
            cluster="bench",
            region=name,
            regions=("here", "there"),
            terms=Terms(Limits(10**10, 1000)),
            checkpoint_after_ms=0,
        )
        return Region(settings, Overlay(self._disks[name]), "boot", self.now)

    def commit(self, region: Region) -> None:
        """Make a region's open batch durable."""
        batch = region.seal()
        if batch:
            self._disks[region.settings.region].commit_now(batch)
            region.landed()

    def close(self) -> None:
        """Let go of the stores."""
        for disk in self._disks.values():
            disk.close()

    def decode(self) -> None:
        """Key and body of a request."""
        headers = CIMultiDictProxy(CIMultiDict({"Idempotency-Key": '"a-key-of-usual-length"'}))
        decode = Body(wire.ReserveRequest).decode
        for _ in range(self.count):
            idempotency_key(headers)
            decode(BODY, False)

    def submit(self) -> None:
        """Judge, fold, stamp, seal: everything up to the open batch."""
        for _ in range(self.count):
            self._number += 1
            answer = self.here.submit(TENANT, Reserve(60, 3_600_000), Key(f"k{self._number}"), self.now)
            assert isinstance(answer, Accepted)
            self.accepted.append(answer)

    def commits(self) -> Iterator[tuple[float, float]]:
        """For each batch: µs of an entry's share of submitting, and of its durable commit."""
        for _ in range(self.count // BATCH):
            count, self.count = self.count, BATCH
            submit = microseconds(BATCH, self.submit)
            self.count = count
            yield submit, microseconds(BATCH, lambda: self.commit(self.here))

    def reply(self) -> None:
        """The reply's bytes."""
        encode = msgspec.json.Encoder().encode
        for answer in self.accepted[: self.count]:
            encode(reservation_reply(answer.filed, "here"))

    def checkpoint(self) -> int:
        """What is stable goes to rows; returns how many entries."""
        before = len(self.here.books.in_memory[TENANT].timeline)
        self.here.frontier = (self.now + 10**6) << 16
        self.now += 10
        self.here.tick(self.now)
        return before - len(self.here.books.in_memory[TENANT].timeline)

    def pages(self) -> list[list[bytes]]:
        """Everything that the other region lacks, as it would be sent."""
        known = dict(self.there.clock)
        pages = []
        while page := self.here.journal.page(self.here.durable, known, 1000, 256 * 1024):
            known.update({replica: seq for replica, seq, _ in page})
            pages.append([sealed for _, _, sealed in page])
        return pages


def main() -> None:
    """Print a row for each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    count = parser.parse_args().requests
    rows: list[tuple[str, float]] = []
    with TemporaryDirectory(prefix="creditmesh-bench-", dir=".") as root:
        stages = Stages(Path(root), count)
        try:
            rows.append(("decode key and body", median(microseconds(count, stages.decode) for _ in range(ROUNDS))))
            timed = list(stages.commits())
            rows.append(("judge, fold, stamp, seal", median(submit for submit, _ in timed)))
            rows.append((f"durable commit, an entry's share of {BATCH}", median(commit for _, commit in timed)))
            rows.append(("make the reply", median(microseconds(count, stages.reply) for _ in range(ROUNDS))))
            steps = []
            while True:
                begun_at = time.perf_counter()
                done = stages.checkpoint()
                if not done:
                    break
                steps.append((time.perf_counter() - begun_at) / done * 1e6)
                stages.commit(stages.here)
            rows.append(("checkpoint, later", median(steps)))
            pages = stages.pages()
            entries = sum(map(len, pages))
            rows.append(("a peer opens and checks it", microseconds(entries, lambda: _open(pages))))
            rows.append(
                ("a peer takes it in (opens, orders, files)", microseconds(entries, lambda: _take(stages, pages)))
            )
            rows.append(("a peer folds it", microseconds(entries, lambda: _fold(stages))))
        finally:
            stages.close()
    for stage, cost in rows:
        print(f"{stage:<45} {cost:>7.1f} µs")


def _open(pages: list[list[bytes]]) -> None:
    for page in pages:
        for sealed in page:
            open_sealed(sealed)


def _take(stages: Stages, pages: list[list[bytes]]) -> None:
    for page in pages:
        stages.there.receive(page, stages.now)
        stages.commit(stages.there)


def _fold(stages: Stages) -> None:
    assert stages.there.books.in_memory[TENANT].account


if __name__ == "__main__":
    main()
