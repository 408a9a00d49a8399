"""Damaged commits of the journal: never shown, never sent, and made whole again from what memory and peers hold."""

import pytest
from msgspec import structs

from ledger.ids import ClaimId, Key
from node.alarms import Alarm, AlarmKind
from node.store.errors import DamagedEntry
from node.store.kv import MemoryDisk, Table
from node.store.rows import number_key
from replication.entry import open_sealed, seal
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
    assert len(world.region("eu").books.in_memory) == 0, "everything is in rows"
    return world


def alarm(world: Regions, name: str, subject: str | None = None) -> Alarm:
    """The one alarm about damage, or that about one commit."""
    alarms = (each for each in world.region(name).alarms.all() if each.kind is AlarmKind.DAMAGED)
    (found,) = (each for each in alarms if subject in (None, each.subject))
    return found


def digests(world: Regions) -> set[str]:
    return {world.region(name).books.digest() for name in world.names}


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
        assert world.region("eu").books.digest(), "what was checkpointed is known"
        assert not world.audit("eu").ok

    def test_makes_commits_of_many_logs_whole_whatever_was_damaged_in_them(self) -> None:
        world = busy()
        low = len(world.members["eu"].disk.scan(Table.LOG, b"", None, 10_000))
        for commit in range(1, low + 1):
            damage(world, "eu", commit, bit=37 * commit**2)
        for _ in range(low):
            if world.audit("eu").ok:
                break
            world.exchange(500)
        assert world.region("eu").mending.mended == low
        assert world.audit("eu").ok
        assert len(digests(world)) == 1
        world.lose_disk("us")
        world.set_cut("ap", "us", True)
        world.exchange(3_000)
        assert world.region("us").clock == world.region("eu").clock
        assert len(digests(world)) == 1

    def test_has_in_memory_what_no_peer_has_received(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.exchange(200)
        world.part()
        for claim in ("a", "b", "c"):
            world.do("eu", reserve(claim, 10))
        forget_what_was_read(world, "eu")
        for commit in (2, 3):
            damage(world, "eu", commit, bit=1_000)
        assert not world.audit("eu").ok
        world.exchange(200)
        assert world.region("eu").mending.mended == 2
        assert alarm(world, "eu", "commit 3").detail == "eu/b1:3: whole again, from what is left of it and from memory"
        assert world.audit("eu").ok
        world.meet()
        world.exchange(400)
        assert world.region("us").clock == {"eu/b1": 4}

    def test_does_not_believe_another_entry_under_the_same_dot(self) -> None:
        world = history("ap", "eu", "us")
        region = world.region("eu")
        genuine = region.journal.sealed("eu/b2", 3)
        assert genuine is not None
        entry, _ = open_sealed(genuine)
        forged = seal(structs.replace(entry, key=Key("another")))
        forget_what_was_read(world, "eu")
        damage(world, "eu", 3)
        assert region.journal.sealed("eu/b2", 3) is None
        world.part()
        world.tick("eu")
        region.receive([forged], world.now, "ap")
        assert region.mending.damaged == 1
        (fork,) = (each for each in region.alarms.all() if each.kind is AlarmKind.FORK)
        assert (fork.subject, fork.detail) == ("eu/b2", "ap sent another entry 3 than the one that was here")
        region.receive([genuine], world.now, "us")
        assert region.mending.damaged == 0
        assert region.journal.sealed("eu/b2", 3) == genuine

    def test_takes_pages_of_one_entry(self) -> None:
        world = busy(page_entries=1)
        commits = len(world.members["eu"].disk.scan(Table.LOG, b"", None, 10_000))
        for commit in range(1, commits + 1):
            damage(world, "eu", commit, bit=1_000)
        for _ in range(3 * commits):
            if world.audit("eu").ok:
                break
            world.exchange(1_000)
        assert world.audit("eu").ok


def busy(**settings: int) -> Regions:
    """Three regions that spend at once, with several entries of several logs to a commit; eu starts again."""
    world = Regions("ap", "eu", "us", **settings)
    world.do("eu", grant("L", 10_000))
    world.exchange(400)
    for turn in range(4):
        world.part()
        for name in world.names:
            for number in range(3):
                world.ask(name, reserve(f"{name}-{turn}-{number}", 10))
            world.land(name)
        world.meet()
    world.put_right()
    world.exchange(2_000)
    world.crash("eu")
    assert len(world.region("eu").books.in_memory) == 0, "everything is in rows"
    return world


def forget_what_was_read(world: Regions, name: str) -> None:
    """The journal's cache is empty, as after many more commits."""
    world.region(name).journal._recent.clear()
