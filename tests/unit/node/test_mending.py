"""Damaged commits of the journal: never shown, never sent, and made whole again from what memory and peers hold."""

import pytest

from ledger.ids import ClaimId, Key
from node.alarms import Alarm, AlarmKind
from node.store.errors import DamagedEntry
from node.store.kv import MemoryDisk, Table
from node.store.rows import number_key
from tests.regions import HOUR_MS, Regions, capture, grant, reserve
from tests.world import TENANT


def damage(world: Regions, name: str, commit: int, bit: int = 300) -> None:
    """Flip a bit in a commit on a region's disk."""
    disk = world.members[name].disk
    assert isinstance(disk, MemoryDisk)
    disk.damage(Table.LOG, number_key(commit), bit)


def history(*names: str) -> Regions:
    """Six entries of eu, one to a commit, known everywhere, checkpointed; then eu starts again."""
    world = Regions(*names)
    world.do("eu", grant("L", 100))
    for claim in ("a", "b"):
        world.do("eu", reserve(claim, 10))
        world.do("eu", capture(claim, 10, final=True))
    world.do("eu", reserve("c", 10, lease_ms=HOUR_MS * 9))
    world.exchange(1_000)
    world.crash("eu")
    assert len(world.region("eu").books) == 0, "everything is in rows"
    return world


def alarm(world: Regions, name: str) -> Alarm:
    """The one alarm about damage."""
    (found,) = (each for each in world.region(name).alarms.all() if each.kind is AlarmKind.DAMAGED)
    return found


def digests(world: Regions) -> set[str]:
    return {world.region(name).digest() for name in world.names}


class TestARegionThatLostACommit:
    def test_sends_nothing_of_it_fetches_it_from_a_third_region_and_then_sends_it(self) -> None:
        world = history("ap", "eu", "us")
        damage(world, "eu", 3)
        world.part()
        world.set_cut("ap", "eu", False)
        world.lose_disk("ap")
        world.exchange(1_000)
        assert world.region("ap").clock == {"eu/b2": 2}, "what stands before the damage is sent, and nothing behind it"
        assert world.region("eu").mending.damaged == 1
        assert alarm(world, "eu").subject == "commit 3"
        assert "its checksum does not match; in it eu/b2:3; 1 of 1 are lost" in alarm(world, "eu").detail
        world.set_cut("eu", "us", False)
        world.exchange(1_000)
        assert (world.region("eu").mending.damaged, world.region("eu").mending.mended) == (0, 1)
        assert alarm(world, "eu").detail == "eu/b2:3: whole again, with what us sent"
        assert world.region("ap").clock == world.region("eu").clock == {"eu/b2": 6}
        assert len(digests(world)) == 1
        assert world.audit("eu").ok

    def test_keeps_what_it_put_back(self) -> None:
        world = history("eu", "us")
        damage(world, "eu", 3)
        assert not world.audit("eu").ok
        world.exchange(1_000)
        world.crash("eu")
        assert world.audit("eu").ok
        assert world.region("eu").mending.damaged == 0

    def test_answers_nothing_that_needs_it_and_everything_else(self) -> None:
        world = history("eu", "us")
        world.part()
        damage(world, "eu", 2)
        region = world.region("eu")
        with pytest.raises(DamagedEntry, match="commit 2 of the journal is not what was written"):
            region.submit(TENANT, reserve("a", 10), Key("key-2"), world.now)
        book = world.book("eu")
        assert (book.account.totals["used"], book.account.claims[ClaimId("c")].held_total) == (20, 10)
        world.do("eu", reserve("d", 10))
        world.cut.clear()
        world.exchange(1_000)
        answer = world.submit("eu", reserve("a", 10), "key-2")
        assert getattr(answer, "replayed", False)

    def test_asks_one_peer_after_the_other_while_some_have_lost_it_too(self) -> None:
        world = history("ap", "eu", "us")
        world.crash("ap")
        damage(world, "eu", 3)
        damage(world, "ap", 1)
        for name in ("eu", "ap"):
            assert not world.audit(name).ok
        world.exchange(2_000)
        assert [world.region(name).mending.damaged for name in world.names] == [0, 0, 0]
        assert all(world.audit(name).ok for name in world.names)

    def test_goes_on_and_goes_on_asking_when_nobody_has_it(self) -> None:
        world = history("eu", "us")
        damage(world, "eu", 3)
        assert not world.audit("eu").ok
        world.lose_disk("us")
        world.exchange(3_000)
        world.do("eu", reserve("d", 10))
        world.exchange(1_000)
        assert world.region("us").clock == {"eu/b1": 2}
        assert world.region("eu").mending.damaged == 1
        assert "1 of 1 are lost" in alarm(world, "eu").detail
        assert world.region("eu").digest(), "what was checkpointed is known"
        assert not world.audit("eu").ok
