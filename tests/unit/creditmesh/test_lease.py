"""A reservation for a block of code: renewed while it runs, given back at its end, and loud when it was lost."""

import asyncio
import random

import pytest

from creditmesh import AsyncClient, LeaseLost, Retry, Unavailable, wire
from tests.unit.creditmesh.misbehaving import Behaviour, MisbehavingNode, drop, refuse, reply, reservation

RESERVED = reply(reservation(), 201)
RENEWED = reply(reservation(lease_until=2))
CLOSED = reply(reservation(state=wire.ReservationState.CLOSED, held=0))
ENDED = refuse(wire.ProblemKind.RESERVATION_ENDED, state="lapsed", detail="it lapsed")


class Clock:
    """Time that the test lets pass. Only the background renewal sleeps here, so there is one sleeper at a time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._naps: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        awake = asyncio.Event()
        self._naps.put_nowait((self.now + seconds, awake))
        await awake.wait()

    async def pass_one_nap(self) -> None:
        """Waits until the renewal sleeps (so what it had asked before is answered), and lets it sleep out."""
        self.now, awake = await self._naps.get()
        awake.set()

    async def until_asleep(self) -> None:
        """Waits until the renewal sleeps again, and leaves it asleep."""
        nap = await self._naps.get()
        self._naps.put_nowait(nap)


def client_of(node: MisbehavingNode, clock: Clock) -> AsyncClient:
    return AsyncClient(
        node.url,
        retry=Retry(attempts=1),
        rng=random.Random(1),
        sleep=clock.sleep,
        monotonic=clock.monotonic,
    )


def paths(node: MisbehavingNode) -> list[str]:
    return [path.removeprefix("/v1/tenants/acme/reservations") for _, path, _, _ in node.requests]


async def test_a_block_reserves_and_releases() -> None:
    clock = Clock()
    async with MisbehavingNode(RESERVED, CLOSED) as node, client_of(node, clock) as client:
        async with client.reservation("acme", 60, lease_ms=3000, job="j1", key="k1") as r:
            assert r.id == "r1"
            assert not r.lost
        assert r.view.state is wire.ReservationState.CLOSED
    assert paths(node) == ["", "/r1/release"]
    assert node.keys[0] == "k1"


async def test_the_lease_is_renewed_at_every_third_of_it() -> None:
    clock = Clock()
    async with (
        MisbehavingNode(RESERVED, RENEWED, RENEWED, CLOSED) as node,
        client_of(node, clock) as client,
        client.reservation("acme", 60, lease_ms=3000) as r,
    ):
        await clock.pass_one_nap()
        await clock.pass_one_nap()
        await clock.until_asleep()
        assert clock.now == 2.0
        assert r.view.lease_until == 2
    assert paths(node) == ["", "/r1/renew", "/r1/renew", "/r1/release"]
    assert len(set(node.keys)) == 4


async def test_a_final_capture_leaves_nothing_to_release() -> None:
    clock = Clock()
    async with (
        MisbehavingNode(RESERVED, CLOSED) as node,
        client_of(node, clock) as client,
        client.reservation("acme", 60, lease_ms=3000) as r,
    ):
        await r.capture(48, final=True)
    assert paths(node) == ["", "/r1/capture"]


async def test_a_lost_lease_is_seen_while_the_block_runs_and_raised_at_its_end() -> None:
    clock = Clock()

    async def work(client: AsyncClient) -> None:
        async with client.reservation("acme", 60, lease_ms=3000) as r:
            watcher = asyncio.create_task(r.until_lost())
            await clock.pass_one_nap()
            assert "it lapsed" in await watcher
            assert r.lost

    async with MisbehavingNode(RESERVED, ENDED) as node, client_of(node, clock) as client:
        with pytest.raises(LeaseLost, match="r1 was lost: 409 reservation-ended: it lapsed"):
            await work(client)


async def test_a_reservation_that_lapsed_unseen_is_found_lost_at_the_end() -> None:
    clock = Clock()
    async with MisbehavingNode(RESERVED, ENDED) as node, client_of(node, clock) as client:
        with pytest.raises(LeaseLost):
            async with client.reservation("acme", 60, lease_ms=3000):
                pass


async def test_a_failed_renewal_is_no_lost_lease_until_a_whole_lease_has_passed() -> None:
    clock = Clock()
    script: list[Behaviour] = [RESERVED, drop, RENEWED, drop, refuse(wire.ProblemKind.NOT_FOUND), CLOSED]
    async with (
        MisbehavingNode(*script) as node,
        client_of(node, clock) as client,
        client.reservation("acme", 60, lease_ms=3000) as r,
    ):
        for _ in range(4):
            await clock.pass_one_nap()
            await clock.until_asleep()
            assert not r.lost


async def test_a_lease_that_could_not_be_renewed_in_its_whole_length_counts_as_lost() -> None:
    clock = Clock()

    async def work(client: AsyncClient) -> None:
        async with client.reservation("acme", 60, lease_ms=3000) as r:
            for _ in range(3):
                await clock.pass_one_nap()
            await r.until_lost()

    async with MisbehavingNode(RESERVED, drop, drop, drop, CLOSED) as node, client_of(node, clock) as client:
        with pytest.raises(LeaseLost, match="no answer"):
            await work(client)
    assert paths(node)[-1] == "/r1/release"


async def test_an_error_of_the_block_is_not_hidden_by_a_failed_release() -> None:
    clock = Clock()
    async with MisbehavingNode(RESERVED, drop) as node, client_of(node, clock) as client:
        with pytest.raises(ZeroDivisionError) as caught:
            async with client.reservation("acme", 60, lease_ms=3000):
                raise ZeroDivisionError
        assert "was not released" in caught.value.__notes__[0]
        with pytest.raises(Unavailable):
            async with client.reservation("acme", 60, lease_ms=3000):
                raise AssertionError("the reservation was never made")
