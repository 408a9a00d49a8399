"""The loop: nobody is told anything that a crash could take back; what is asked meanwhile joins the next commit."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from ledger.command import Command, OnShortage
from ledger.ids import Key, TenantId
from ledger.refusal import Refusal
from node.api.facade import Unavailable
from node.clock import WallClock, machine_ms
from node.region import Accepted, Region
from node.runtime import Node
from node.store.errors import StorageError
from node.store.kv import MemoryDisk, Overlay, Write
from tests.regions import UMBRA, debit, grant, reserve
from tests.unit.node.in_process import config
from tests.world import START_MS, TENANT

T = TypeVar("T")

Done = Callable[[StorageError | None], None]


class HeldDisk:
    """A disk on which nothing lands before the test says so."""

    def __init__(self) -> None:
        self.rows = MemoryDisk()
        self.orders: list[tuple[Sequence[Write], Done]] = []
        self.commits = 0

    def commit(self, batch: Sequence[Write], done: Done) -> None:
        self.orders.append((batch, done))

    def free_bytes(self) -> int:
        return 2**40

    def land(self, error: StorageError | None = None) -> None:
        """The one batch that is at the disk is on it, or cannot be written."""
        ((batch, done),) = self.orders
        self.orders = []
        if error is None:
            self.rows.write(batch)
            self.commits += 1
        done(error)


class Host:
    """A node whose clock stands still."""

    def __init__(self) -> None:
        clock = WallClock()
        clock.set(START_MS - machine_ms(), frozen=True)
        self.disk = HeldDisk()
        configured = config("eu")
        self.region = Region(configured.settings, Overlay(self.disk.rows), "0boot", START_MS)
        self.node = Node(configured, self.region, self.disk, clock)
        self.told: list[bytes] = []
        """What peers may be told."""
        self._became_durable = self.node.committer.on_durable
        self.node.committer.on_durable = self._landed
        self._keys = 0

    def _landed(self, fresh: list[bytes]) -> None:
        self.told += fresh
        self._became_durable(fresh)

    def submit(self, command: Command, key: str | None = None, tenant: TenantId = TENANT) -> asyncio.Task[Any]:
        """A client asks, and waits for the answer."""
        self._keys += 1
        return asyncio.create_task(self.node.submit(tenant, command, Key(key or f"k{self._keys}")))

    async def done(self, command: Command, tenant: TenantId = TENANT) -> None:
        """A client asks, is accepted, and all that is open lands."""
        asked = self.submit(command, tenant=tenant)
        await self.land()
        assert isinstance(await asked, Accepted)

    async def land(self) -> None:
        """Let everybody do what can be done, and land what that brings to the disk, until nothing more comes."""
        await idle()
        while self.disk.orders:
            self.disk.land()
            await idle()


async def idle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def available(book: Any) -> int:
    """What there is to spend."""
    balance: int = book.account.available(START_MS)
    return balance


@pytest.fixture
async def host() -> Host:
    """A node with a hundred credits for one tenant."""
    host = Host()
    await host.done(grant("L", 100))
    return host


async def waits(host: Host, what: Coroutine[Any, Any, T]) -> T:
    """What comes of this, which must not come before a reservation that is at the disk has landed."""
    reserved = host.submit(reserve("a", 60))
    await idle()
    task = asyncio.ensure_future(what)
    await idle()
    assert len(host.disk.orders) == 1, "the reservation is at the disk"
    assert not task.done(), "it has been answered, and the reservation may yet be lost"
    await host.land()
    assert isinstance(await reserved, Accepted)
    return await task


class TestWhatIsToldIsDurable:
    async def test_an_acceptance_waits_for_the_commit_of_its_entry(self, host: Host) -> None:
        asked = host.submit(reserve("a", 60))
        await idle()
        assert not asked.done()
        host.disk.land()
        assert isinstance(await asked, Accepted)
        assert host.region.durable == host.region.clock

    async def test_so_does_the_answer_to_the_same_request_asked_again(self, host: Host) -> None:
        first = host.submit(reserve("a", 60), "once")
        await idle()
        again = host.submit(reserve("a", 60), "once")
        await idle()
        assert not again.done()
        host.disk.land()
        assert (await first).filed.entry.dot == (await again).filed.entry.dot
        assert (await again).replayed

    async def test_a_refusal_waits_for_what_it_tells(self, host: Host) -> None:
        refused = await waits(host, host.node.submit(TENANT, reserve("b", 60), Key("b")))
        assert isinstance(refused, Refusal)
        assert refused.fields["available"] == 40

    async def test_a_batch_waits_for_all_of_it(self, host: Host) -> None:
        asked = [(TENANT, reserve("b", 10), Key("b")), (TENANT, reserve("c", 91), Key("c"))]
        answers = asyncio.create_task(host.node.submit_all(asked))
        await idle()
        assert not answers.done()
        host.disk.land()
        accepted, refused = await answers
        assert isinstance(accepted, Accepted)
        assert isinstance(refused, Refusal)

    async def test_a_batch_that_is_refused_waits_for_what_it_tells(self, host: Host) -> None:
        (refused,) = await waits(host, host.node.submit_all([(TENANT, reserve("b", 60), Key("b"))]))
        assert isinstance(refused, Refusal)

    async def test_a_read_waits_for_what_it_has_seen(self, host: Host) -> None:
        assert await waits(host, host.node.read(TENANT, available)) == 40

    async def test_a_read_shows_what_was_there_when_it_was_asked(self, host: Host) -> None:
        reserved = host.submit(reserve("a", 60))
        await idle()
        read = asyncio.create_task(host.node.read(TENANT, available))
        await idle()
        later = host.submit(reserve("b", 30))
        await host.land()
        assert (await read, isinstance(await reserved, Accepted), isinstance(await later, Accepted)) == (40, True, True)

    async def test_a_read_of_everything_waits(self, host: Host) -> None:
        clock = await waits(host, host.node.read_all(lambda region, _: dict(region.clock)))
        assert clock == host.region.durable

    async def test_the_state_of_the_cluster_waits(self, host: Host) -> None:
        assert (await waits(host, host.node.cluster(with_digest=True))).clock == host.region.durable

    async def test_an_export_waits(self, host: Host) -> None:
        async def exported() -> list[int]:
            return [filed.entry.seq async for filed, _ in host.node.export({})]

        assert await waits(host, exported()) == [1, 2]

    async def test_an_audit_waits(self, host: Host) -> None:
        assert (await waits(host, host.node.audit())).ok

    async def test_who_waits_for_a_clock_waits_until_it_is_durable(self, host: Host) -> None:
        replica = host.node.replica
        assert await waits(host, host.node.caught_up({replica: 2}, 3_600_000))

    async def test_a_node_that_stops_waits_for_what_is_due(self, host: Host) -> None:
        await waits(host, host.node.stop())

    async def test_peers_are_told_of_an_entry_when_it_has_landed(self, host: Host) -> None:
        host.told.clear()
        host.submit(reserve("a", 60))
        await idle()
        assert (host.told, host.region.durable) == ([], {host.node.replica: 1})
        await host.land()
        assert len(host.told) == 1


class TestNobodyWaitsForNothing:
    async def test_a_read_of_another_tenant_is_answered_at_once(self, host: Host) -> None:
        await host.done(grant("M", 7), UMBRA)
        host.submit(reserve("a", 60))
        await idle()
        read = asyncio.create_task(host.node.read(UMBRA, available))
        await idle()
        assert read.done()
        assert await read == 7
        await host.land()

    async def test_a_tenant_that_nobody_knows_has_no_book_to_wait_for(self, host: Host) -> None:
        host.submit(reserve("a", 60))
        await idle()
        read = asyncio.create_task(host.node.read(UMBRA, available))
        await idle()
        assert read.done()
        assert await read is None
        await host.land()

    async def test_a_refusal_that_rests_on_what_is_durable_is_given_at_once(self, host: Host) -> None:
        refused = host.submit(reserve("a", 101))
        await idle()
        assert isinstance(await refused, Refusal)
        assert not host.disk.orders


class TestGroupCommit:
    async def test_what_comes_while_a_batch_is_at_the_disk_lands_together(self, host: Host) -> None:
        asked = [host.submit(reserve("a", 1))]
        await idle()
        asked += [host.submit(reserve(name, 1)) for name in ("b", "c", "d")]
        await idle()
        before = host.disk.commits
        host.disk.land()
        await idle()
        assert [task.done() for task in asked] == [True, False, False, False]
        await host.land()
        assert host.disk.commits - before == 2
        assert all(isinstance(answer, Accepted) for answer in await asyncio.gather(*asked))

    async def test_a_batch_lands_in_one_commit_with_whatever_comes_in_meanwhile(self, host: Host) -> None:
        many = [(TENANT, debit(f"d{number}", 1, OnShortage.DEBT), Key(f"d{number}")) for number in range(250)]
        answers = asyncio.create_task(host.node.submit_all(many))
        other = host.submit(grant("M", 5), tenant=UMBRA)
        before = host.disk.commits
        await host.land()
        assert host.disk.commits - before == 1
        assert all(isinstance(answer, Accepted) for answer in await answers)
        assert isinstance(await other, Accepted)


class TestWhenTheDiskFails:
    async def test_who_waits_is_told_so_and_nothing_more_is_taken(self, host: Host) -> None:
        asked = [host.submit(reserve("a", 60)), asyncio.create_task(host.node.read(TENANT, available))]
        await idle()
        host.disk.land(StorageError("it burns"))
        for task in asked:
            with pytest.raises(Unavailable, match="it burns"):
                await task
        with pytest.raises(Unavailable, match="it burns"):
            await host.node.submit(TENANT, reserve("b", 1), Key("b"))
        with pytest.raises(Unavailable, match="it burns"):
            await host.node.read(TENANT, available)
        assert str(await host.node.failed()) == "it burns"
        assert not host.disk.orders
        assert host.told[1:] == []
