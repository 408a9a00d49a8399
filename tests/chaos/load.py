"""Clients that ask for everything at once: in all regions, with retries of the same key elsewhere, and giving up.

What each was told is kept in one history. A region can be held back: then nobody asks it, and nobody waits for an
answer from it, so that all that it has acknowledged is known.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from creditmesh import Accepted, AsyncClient, CreditmeshError, Retry, Unavailable, wire
from creditmesh.history import Ending, History, Record
from tests.chaos.together import Batch, told

PATIENCE: Final = Retry(attempts=1, attempt_timeout_s=1.5)
FAR_FUTURE_MS: Final = 4_000_000_000_000
TENANTS: Final = tuple(f"tenant-{number}" for number in range(30))
RULED: Final = TENANTS[:8]
"""Those whose policy is set now and then; the others stay as they begin, so that regions go on to overspend them."""

KINDS: Final = (
    "grant", "hold", "renew", "capture", "release", "debit", "refund", "revoke", "transfer", "policy", "heartbeat",
    "usage",
)  # fmt: skip
"""What clients ask for, by the kind of its entry."""

AT_ONCE: Final = 3
"""Operations in a batch."""

KIND_OF: Final = {wire.BatchKind.RESERVE: "hold", wire.BatchKind.DEBIT: "debit"}
"""Those that stand in batches, and the kind of their entry."""

ASKED_AGAIN: Final = 4
"""How often a client asks again under the same key before it gives up on an answer."""

Request = Callable[[AsyncClient], Awaitable[Accepted[Any]]]
Answer = Accepted[Any] | CreditmeshError


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Gate:
    """Whether a region may be asked, and how many answers are awaited from it."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._awaited = 0

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Wait until the region may be asked; for the time of a request."""
        await self._open.wait()
        self._awaited += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._awaited -= 1
            if not self._awaited:
                self._quiet.set()

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Nobody asks, and nobody waits for an answer."""
        self._open.clear()
        try:
            await self._quiet.wait()
            yield
        finally:
            self._open.set()


class Load:
    """The clients of all regions. `pause_s` is how long each waits at most between two requests."""

    def __init__(self, urls: Mapping[str, str], rng: random.Random, *, clients_per_region: int, pause_s: float) -> None:
        self._urls = urls
        self._rng = rng
        self._clients_per_region = clients_per_region
        self._pause_s = pause_s
        self._stop = asyncio.Event()
        self._history = History(at_once=10_000, now_ms=now_ms)
        self.gates = {region: Gate() for region in urls}
        self.asked_elsewhere = 0
        """Requests repeated under the same key in another region."""
        self.replayed = 0
        """Answers that said that the request had been accepted before."""
        self.batches = 0
        """Batches of which some operation was accepted."""

    @property
    def records(self) -> list[Record]:
        """Every request so far."""
        return self._history.records

    def accepted(self) -> dict[str, int]:
        """How many requests of each kind were accepted."""
        return {kind: self._history.statistics.requests[kind, Ending.ACCEPTED] for kind in KINDS}

    def endings(self) -> dict[Ending, int]:
        """How many requests ended how."""
        counts = dict.fromkeys(Ending, 0)
        for (_, ending), count in self._history.statistics.requests.items():
            counts[ending] += count
        return counts

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The clients ask for as long as the block, and get or give up their last answers at its end."""
        async with AsyncExitStack() as stack:
            clients = {
                region: await stack.enter_async_context(AsyncClient(url, retry=PATIENCE))
                for region, url in self._urls.items()
            }
            workers = [
                asyncio.create_task(
                    _Client(
                        f"{region}-{number}", region, clients, self, random.Random(self._rng.random())
                    ).ask_for_ever()
                )
                for region in self._urls
                for number in range(self._clients_per_region)
            ]
            try:
                yield
            finally:
                self._stop.set()
                await asyncio.gather(*workers)

    @property
    def is_over(self) -> bool:
        """Whether clients are to stop."""
        return self._stop.is_set()

    async def pause(self, rng: random.Random) -> None:
        """What lies between two requests of a client."""
        try:
            async with asyncio.timeout(rng.uniform(0, self._pause_s)):
                await self._stop.wait()
        except TimeoutError:
            pass

    async def send(
        self, region: str, client: AsyncClient, kind: str, tenant: str, key: str, amount: int, request: Request
    ) -> Accepted[Any] | CreditmeshError:
        """One attempt at a request."""
        async with self.gates[region].passing():
            answer = await self._history.send(kind, tenant, key, amount, lambda: request(client))
        self.replayed += isinstance(answer, Accepted) and answer.replayed
        return answer


class _Client:
    """One client, that asks for one thing after the other in its region, and elsewhere when it gets no answer."""

    def __init__(
        self, name: str, home: str, clients: Mapping[str, AsyncClient], load: Load, rng: random.Random
    ) -> None:
        self._name = name
        self._home = home
        self._clients = clients
        self._load = load
        self._rng = rng
        self._asked = 0
        self._held: list[tuple[str, str]] = []
        self._used: list[tuple[str, str]] = []
        self._lots: list[tuple[str, str]] = []
        self._jobs: list[tuple[str, str]] = []

    async def ask_for_ever(self) -> None:
        weights = {
            self._grant: 4, self._reserve: 10, self._renew: 3, self._capture: 6, self._release: 3, self._debit: 7,
            self._refund: 1, self._revoke: 1, self._transfer: 2, self._policy: 1, self._beat: 3, self._work: 5,
            self._batch: 2,
        }  # fmt: skip
        while not self._load.is_over:
            (step,) = self._rng.choices(list(weights), list(weights.values()))
            await step()
            await self._load.pause(self._rng)

    async def _ask(
        self, kind: str, tenant: str, amount: int, request: Callable[[AsyncClient, str], Any], key: str | None = None
    ) -> Any:
        """The reply, or None. The key is a new one, unless the request has its own."""
        key = key or self._new_key()
        answer = await self._until_answered(
            lambda region, client: self._load.send(
                region, client, kind, tenant, key, amount, lambda client: request(client, key)
            )
        )
        return answer.reply if isinstance(answer, Accepted) else None

    async def _until_answered(self, attempt: Callable[[str, AsyncClient], Awaitable[Answer]]) -> Answer:
        """Asked here first, and again, here or elsewhere, while there is no answer; the last answer."""
        region = self._home
        answer = await attempt(region, self._clients[region])
        for _ in range(self._rng.randint(0, ASKED_AGAIN)):
            if not isinstance(answer, Unavailable) and not self._rng.random() < 0.02:
                break  # but some do not trust the answer, and ask again
            await self._load.pause(self._rng)
            region = self._rng.choice(list(self._clients))
            self._load.asked_elsewhere += region != self._home
            answer = await attempt(region, self._clients[region])
        return answer

    async def _tell(self, kind: str, tenant: str, amount: int, make: Callable[[str], wire.UsageEvent]) -> Any:
        """The result of a usage event, which is the same however often it is told; or None."""
        name = self._new_key()
        event = make(name)
        return await self._ask(kind, tenant, amount, lambda client, _: told(client, event), f"event:{name}")

    def _new_key(self) -> str:
        self._asked += 1
        return f"{self._name}:{self._asked}"

    def _tenant(self) -> str:
        return self._rng.choice(TENANTS)

    def _take(self, among: list[tuple[str, str]]) -> tuple[str, str] | None:
        return among.pop(self._rng.randrange(len(among))) if among else None

    async def _grant(self) -> None:
        tenant, amount = self._tenant(), self._rng.randint(1, 600)
        # A few expire while the test runs, and some start a little later.
        expires_at = now_ms() + self._rng.randint(1_000, 15_000) if self._rng.random() < 0.3 else FAR_FUTURE_MS
        starts_at = now_ms() + self._rng.randint(100, 900) if self._rng.random() < 0.2 else None
        reply = await self._ask(
            "grant",
            tenant,
            amount,
            lambda client, key: client.grant(tenant, amount, expires_at=expires_at, starts_at=starts_at, key=key),
        )
        if reply is not None:
            self._lots.append((tenant, reply.lot))

    async def _reserve(self) -> None:
        tenant, amount = self._tenant(), self._rng.randint(1, 100)
        lease_ms = self._rng.choice([300, 1_000, 5_000, 3_600_000])
        job = f"job:{self._name}:{self._asked}"
        reply = await self._ask(
            "hold",
            tenant,
            amount,
            lambda client, key: client.reserve(tenant, amount, lease_ms=lease_ms, job=job, key=key),
        )
        if reply is not None:
            self._held.append((tenant, reply.reservation))
            self._jobs.append((tenant, job))

    async def _renew(self) -> None:
        if (taken := self._take(self._held)) is None:
            return
        tenant, reservation = taken
        lease_ms = self._rng.choice([500, 5_000])
        reply = await self._ask(
            "renew", tenant, 0, lambda client, key: client.renew(tenant, reservation, lease_ms=lease_ms, key=key)
        )
        if reply is not None:
            self._held.append(taken)

    async def _capture(self) -> None:
        if (taken := self._take(self._held)) is None:
            return
        tenant, reservation = taken
        amount, final = self._rng.randint(1, 120), self._rng.random() < 0.7
        reply = await self._ask(
            "capture",
            tenant,
            amount,
            lambda client, key: client.capture(tenant, reservation, amount, final=final, key=key),
        )
        if reply is not None:
            self._used.append(taken)
            if not final:
                self._held.append(taken)

    async def _release(self) -> None:
        if (taken := self._take(self._held)) is not None:
            tenant, reservation = taken
            await self._ask("release", tenant, 0, lambda client, key: client.release(tenant, reservation, key=key))

    async def _debit(self) -> None:
        tenant, amount = self._tenant(), self._rng.randint(1, 60)
        at = now_ms() - self._rng.randint(0, 5_000) if self._rng.random() < 0.3 else None
        shortage = self._rng.choice(list(wire.OnShortage))
        reply = await self._ask(
            "debit",
            tenant,
            amount,
            lambda client, key: client.debit(tenant, amount, at=at, on_shortage=shortage, key=key),
        )
        if reply is not None:
            self._used.append((tenant, reply.debit))

    async def _refund(self) -> None:
        if (taken := self._take(self._used)) is not None:
            tenant, claim = taken
            await self._ask("refund", tenant, 1, lambda client, key: client.refund(tenant, claim, 1, key=key))

    async def _revoke(self) -> None:
        if (taken := self._take(self._lots)) is not None:
            tenant, lot = taken
            await self._ask("revoke", tenant, 0, lambda client, key: client.revoke(tenant, lot, key=key))

    async def _transfer(self) -> None:
        tenant, to = self._rng.sample(TENANTS, 2)
        amount = self._rng.randint(1, 60)
        await self._ask(
            "transfer", tenant, amount, lambda client, key: client.transfer(tenant, to, amount=amount, key=key)
        )

    async def _policy(self) -> None:
        tenant = self._rng.choice(RULED)
        on_overspend = self._rng.choice(list(wire.OnOverspend))
        is_escrow = on_overspend is wire.OnOverspend.DEBT and self._rng.random() < 0.5
        admission = wire.Admission.ESCROW if is_escrow else wire.Admission.OPTIMISTIC
        max_held = self._rng.choice([None, 300])
        await self._ask(
            "policy",
            tenant,
            0,
            lambda client, key: client.set_policy(
                tenant, on_overspend=on_overspend, admission=admission, max_held=max_held, key=key
            ),
        )

    async def _beat(self) -> None:
        if not self._jobs:
            return
        tenant, job = self._rng.choice(self._jobs)
        lease_ms = self._rng.choice([500, 5_000])
        await self._tell(
            "heartbeat",
            tenant,
            0,
            lambda name: wire.Heartbeat(id=name, tenant=tenant, job=job, at=now_ms(), lease_ms=lease_ms),
        )

    async def _work(self) -> None:
        if (taken := self._take(self._jobs)) is None:
            return
        (tenant, job), amount = taken, self._rng.randint(1, 60)
        end = now_ms() - self._rng.randint(0, 2_000)
        start = end - self._rng.randint(1, 5_000)
        ends = self._rng.random() < 0.5
        kind = wire.JobFinished if ends else wire.Interval
        reply = await self._tell(
            "usage",
            tenant,
            amount,
            lambda name: kind(id=name, tenant=tenant, job=job, start=start, end=end, amount=amount),
        )
        if reply is not None and not ends:
            self._jobs.append(taken)

    async def _batch(self) -> None:
        operations = [self._operation() for _ in range(AT_ONCE)]

        async def attempt(region: str, client: AsyncClient) -> Answer:
            batch = Batch(operations)
            answers = await asyncio.gather(
                *(
                    self._load.send(
                        region, client, KIND_OF[each.operation], each.tenant, each.key, each.body["amount"],
                        lambda client, number=number: batch.result(client, number),  # type: ignore[misc]
                    )
                    for number, each in enumerate(operations)
                )
            )  # fmt: skip
            self._load.batches += any(isinstance(answer, Accepted) for answer in answers)
            return answers[0]

        await self._until_answered(attempt)

    def _operation(self) -> wire.BatchOperation:
        kind = self._rng.choice(list(KIND_OF))
        body: dict[str, Any] = {"amount": self._rng.randint(1, 20)}
        if kind is wire.BatchKind.RESERVE:
            body["lease_ms"] = 1_000
        return wire.BatchOperation(tenant=self._tenant(), key=self._new_key(), operation=kind, body=body)
