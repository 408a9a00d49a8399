"""Nodes in memory, behind the real HTTP server: a real region, a disk that is a dict, and a clock that tests set."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Struct

from creditmesh import wire
from ledger.command import AcknowledgeConflict, Command
from ledger.ids import Key, TenantId
from ledger.pricing import RateCard, Rates
from ledger.refusal import Refusal
from node.acknowledging import acknowledge
from node.alarms import Alarm
from node.api import build_server
from node.api.facade import Asked, NothingDone, RegionView
from node.api.problems import FIELDS
from node.applying import Applied, apply
from node.audit import AuditResult, audit
from node.book import LedgerBook
from node.clock import WallClock
from node.config import (
    MIB,
    Address,
    ChaosSection,
    LimitsSection,
    MemorySection,
    NodeConfig,
    ReconciliationSection,
    RegionConfig,
    ReplicationSection,
    RulesSection,
    StoreSection,
    TimingSection,
)
from node.metrics import Metrics
from node.reconcile import Reconciliation, reconcile
from node.region import Accepted, Received, Region
from node.snapshots import ScheduledJob
from node.store.kv import MemoryDisk, Overlay
from replication.clock import VectorClock, descends, encode_token
from replication.entry import open_sealed
from replication.filed import Filed

T = TypeVar("T")

NOON = 1_700_000_000_000
RATES = RateCard([Rates(0, {"A100": Fraction(60), "L4": Fraction("7.5")}, {"spot": Fraction(1, 2)})])
HOUR = 3_600_000


def config(
    region: str, peers: tuple[str, ...] = (), *, chaos: bool = False, body_bytes: int = 4096, batch_bytes: int = MIB
) -> NodeConfig:
    def place(name: str) -> RegionConfig:
        nowhere = Address("127.0.0.1", 1)
        return RegionConfig(name=name, listen=nowhere, peer_listen=nowhere, data=Path("/nowhere"))

    return NodeConfig(
        cluster="c",
        region=place(region),
        peers=tuple(map(place, peers)),
        limits=LimitsSection(body_bytes=body_bytes, batch_bytes=batch_bytes),
        rules=RulesSection(),
        rates=RATES,
        timing=TimingSection(),
        replication=ReplicationSection(),
        store=StoreSection(),
        memory=MemorySection(),
        reconciliation=ReconciliationSection(),
        chaos=ChaosSection(enabled=chaos),
    )


class LagState(Struct, frozen=True):
    entries: int
    heard_ms_ago: int | None


class Peer(Struct, frozen=True):
    region: str
    linked: bool
    cut: bool
    heard_ms_ago: int | None
    missing_here: int
    missing_there: int
    promise: int | None


class State(Struct, frozen=True):
    clock: VectorClock
    digest: str | None
    unsettled_tenants: int
    findings: Mapping[str, int] | None
    peers: list[Peer]
    frontier: int | None
    held_back_by: str | None
    alarms: list[Alarm]


class InProcessNode:
    """What the routes need of a node. Every batch lands at once; `on_submit` may interfere before that."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.name = config.region.name
        self.metrics = Metrics()
        self.clock = WallClock()
        self.clock_ms = NOON
        self.waits: list[int] = []
        self.disk = MemoryDisk()
        self.region = Region(config.settings, Overlay(self.disk), "0boot", NOON)
        self.replica = self.region.replica
        self.unready: list[str] = []
        self.cuts: dict[str, bool] = {}
        self.promised = dict.fromkeys(config.settings.regions, NOON << 16)
        self.on_submit: Callable[[Command], None] = lambda _: None
        self.break_export_after: int | None = None
        self.patience = 1
        self.is_ending = False
        self._waits = asyncio.Event()
        self._moved = asyncio.Event()

    def now(self) -> int:
        return self.clock_ms

    def commit(self) -> None:
        batch = self.region.seal()
        if batch:
            self.disk.write(batch)
            self.region.landed()
        self._moved.set()
        self._moved = asyncio.Event()

    def tick(self, later_ms: int) -> None:
        self.clock_ms += later_ms
        self.region.tick(self.clock_ms)
        self.commit()

    def hear(self, other: "InProcessNode") -> None:
        """Take in all that the other node has."""
        page = other.region.journal.page(dict(other.region.durable), dict(self.region.durable), 1000, 1 << 20)
        self.region.receive([sealed for _, _, sealed in page], self.clock_ms)
        self.commit()

    async def submit(self, tenant: TenantId, command: Command, key: Key, wait_ms: int) -> Accepted | Refusal:
        self.waits.append(wait_ms)
        self.on_submit(command)
        outcome = self.region.submit(tenant, command, key, self.clock_ms)
        self.commit()
        return outcome

    async def submit_all(self, asked: Sequence[Asked]) -> list[Accepted | Refusal | NothingDone]:
        answers: list[Accepted | Refusal | NothingDone] = []
        for tenant, command, key in asked:
            self.on_submit(command)
            answers.append(self.region.submit(tenant, command, key, self.clock_ms))
        self.commit()
        return answers

    async def put_jobs(
        self, source: str, at: int, jobs: Mapping[TenantId, Sequence[ScheduledJob]]
    ) -> Received | Refusal:
        received = self.region.take_snapshot(source, at, jobs)
        self.commit()
        return received

    async def reconcile(self, result: Reconciliation) -> None:
        for _ in reconcile(self.region, self.clock_ms, result):
            pass

    async def acknowledge(self, command: AcknowledgeConflict, key: Key) -> Accepted | Refusal:
        answer = acknowledge(self.region, command, key, self.clock_ms)
        self.commit()
        return answer

    async def landed(self, after: int, timeout_s: float) -> int | None:  # noqa: ARG002
        """Real time stands still: who waits is woken by commits, and by the end."""
        if self.region.journal.durable_commit <= after and not self.is_ending:
            await self._moved.wait()
        return None if self.is_ending else self.region.journal.durable_commit

    def end_streams(self) -> None:
        self.is_ending = True
        self.commit()

    async def apply_finding(self, tenant: TenantId, name: str) -> Applied:
        found = Reconciliation(tenant, lambda finding: finding.id == name)
        await self.reconcile(found)
        answer = apply(self.region, tenant, name, next(iter(found.found), None), self.clock_ms)
        self.commit()
        return answer

    async def read(self, tenant: TenantId, render: Callable[[LedgerBook], T]) -> T | None:
        book = self.region.books.existing(tenant, self.clock_ms)
        return None if book is None else render(book)

    async def read_all(self, render: Callable[[RegionView, int], T]) -> T:
        return render(self.region, self.clock_ms)

    async def in_slices(self, steps: Iterator[T]) -> AsyncIterator[T]:
        for each in steps:
            yield each

    def promises(self) -> Mapping[str, int]:
        return self.promised

    async def caught_up(self, clock: VectorClock, timeout_ms: int) -> bool:
        """Real time stands still: who waits is woken by commits, and gives up after as many as `patience` says."""
        assert timeout_ms == self.config.limits.clock_wait_ms
        for _ in range(self.patience):
            if descends(self.region.durable, clock):
                return True
            self._waits.set()
            await self._moved.wait()
        return descends(self.region.durable, clock)

    async def somebody_waits(self) -> None:
        await self._waits.wait()

    def as_of(self) -> str:
        return encode_token(self.region.clock)

    def behind(self) -> Mapping[str, LagState]:
        return {peer.name: LagState(3, 250) for peer in self.config.peers}

    def not_ready(self) -> list[str]:
        return self.unready

    async def cluster(self, with_digest: bool) -> State:
        return State(
            clock=dict(self.region.durable),
            digest=self.region.books.digest() if with_digest else None,
            unsettled_tenants=0,
            findings={"never_started": 2},
            peers=[
                Peer(peer.name, True, self.cuts.get(peer.name, False), None, 3, 0, NOON << 16 | 7)
                for peer in self.config.peers
            ],
            frontier=NOON << 16,
            held_back_by=self.name,
            alarms=self.region.alarms.all(),
        )

    async def audit(self) -> AuditResult:
        result = AuditResult()
        for _ in audit(self.region, self.clock_ms, result):
            pass
        return result

    async def export(self, after: VectorClock) -> AsyncIterator[tuple[Filed, bytes]]:
        page = self.region.journal.page(dict(self.region.durable), dict(after), 1000, 1 << 20)
        for count, (replica, seq, sealed) in enumerate(page):
            if count == self.break_export_after:
                raise RuntimeError("a secret path: /srv/credit")
            filed = self.region.journal.find(replica, seq)
            assert filed is not None
            yield filed, open_sealed(sealed)[1]

    def set_link(self, peer: str, cut: bool) -> None:
        self.cuts[peer] = cut


class Answer(Struct, frozen=True):
    """A reply, read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def read(self, reply: type[T]) -> T:
        return msgspec.json.decode(self.body, type=reply)

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Browser:
    """Speaks HTTP to one node."""

    def __init__(self, node: InProcessNode, session: aiohttp.ClientSession, url: str) -> None:
        self.node = node
        self.session = session
        self.url = url
        self._keys = 0

    async def send(self, method: str, path: str, body: bytes | BytesIO | None = None, **headers: str) -> Answer:
        """Header names as keywords, with ``_`` for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(
            method, self.url + path, data=body, headers=named, skip_auto_headers=("Content-Type", "Accept")
        ) as response:
            return Answer(response.status, response.headers.copy(), await response.read())

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.send("GET", path, None, **headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        """A write with a key of its own, unless one is given."""
        if "Idempotency_Key" not in headers:
            self._keys += 1
            headers["Idempotency_Key"] = f"{self.node.name}-k{self._keys}"
        if body is None:
            return await self.send("POST", path, None, **headers)
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return await self.send("POST", path, content, **{"Content_Type": "application/json", **headers})

    async def granted(self, amount: int, lot: str = "l1", tenant: str = "acme", lasting_ms: int = HOUR) -> Answer:
        """Credit for an hour."""
        body = {"amount": amount, "expires_at": self.node.clock_ms + lasting_ms, "lot": lot}
        answer = await self.post(f"/v1/tenants/{tenant}/grants", body)
        assert answer.status == 201, answer.body
        return answer

    async def reserved(self, amount: int, reservation: str, tenant: str = "acme") -> Answer:
        """A reservation for a minute."""
        body = {"amount": amount, "lease_ms": 60_000, "reservation": reservation}
        answer = await self.post(f"/v1/tenants/{tenant}/reservations", body)
        assert answer.status == 201, answer.body
        return answer


@asynccontextmanager
async def browsing(node: InProcessNode) -> AsyncIterator[Browser]:
    """The node behind its HTTP server, on a port of its own."""
    runner = web.ServerRunner(build_server(node))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as session:
            yield Browser(node, session, f"http://{host}:{port}")
    finally:
        node.end_streams()
        await runner.cleanup()


def refused(answer: Answer, kind: wire.ProblemKind) -> wire.Problem:
    """The problem in an answer, which must be of this kind and say so in every way that there is."""
    assert answer.headers["Content-Type"] == wire.PROBLEM_JSON
    problem = answer.read(wire.Problem)
    assert problem.kind == kind
    assert answer.status == problem.status == wire.STATUS[kind]
    assert problem.title
    assert problem.detail
    fields = answer.json.keys() - {"type", "title", "status", "detail", "region"}
    assert FIELDS[kind].always.keys() <= fields <= FIELDS[kind].always.keys() | FIELDS[kind].perhaps.keys()
    return problem
