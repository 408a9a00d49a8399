"""A damaged row, a damaged tail, a damaged index: the state is folded again from the entries that are whole."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest

from ledger.command import SetPolicy
from ledger.ids import JobId
from node.alarms import AlarmKind
from node.rebuild import mark, opened
from node.snapshots import JobState, ScheduledJob
from node.store.errors import DamagedRow, ForeignDirectory
from node.store.kv import MemoryDisk, Table, Write, checked
from node.store.rows import CEILING, CEILING_AGAIN, LOW, REBUILD, RULES_KEY, number_key, pack
from tests.regions import HOUR_MS, Regions, capture, grant, release, reserve, usage
from tests.world import TENANT

DERIVED = [
    Table.DOTS, Table.STATES, Table.LOTS, Table.OPEN, Table.CLOSED, Table.KEYS, Table.HISTORY, Table.RUNNING,
    Table.RESTING, Table.POLICIES, Table.CONFLICTS, Table.CONFLICT_ORDER,
]  # fmt: skip


def disk_of(world: Regions, name: str) -> MemoryDisk:
    disk = world.members[name].disk
    assert isinstance(disk, MemoryDisk)
    return disk


def keys(world: Regions, name: str, table: Table) -> list[bytes]:
    return [key for key, _ in disk_of(world, name).scan(table, b"", None, 10_000)]


def history(*names: str) -> Regions:
    """Concurrent spending of several regions, compensated, checkpointed, and then some more."""
    world = Regions(*names)
    world.do(names[0], grant("L", 100))
    world.do(names[0], SetPolicy(max_held=10**9))
    for job, final in (("running", False), ("finished", True)):
        world.do(names[0], usage(job, 500, 501, 1, final=final))
    world.meet()
    world.part()
    for number, name in enumerate(names):
        world.do(name, reserve(f"c{number}", 60, lease_ms=HOUR_MS // 2))
        world.do(name, capture(f"c{number}", 30))
    world.put_right()
    world.exchange(2_000)
    assert world.reports(names[0])
    for name in names:
        world.do(name, grant(f"M{name}", 50))
        world.do(name, reserve(f"d{name}", 10))
    world.put_right()
    world.do(names[0], reserve("e", 1))
    world.exchange(300)
    world.put_right()
    return world


def rebuilt(world: Regions, name: str) -> str:
    """What the alarm says of the rebuild that the last start had to do."""
    (found,) = (each for each in world.region(name).alarms.all() if each.kind is AlarmKind.REBUILT)
    return found.detail


def agree(world: Regions) -> None:
    """All regions hold the same entries and make the same of them."""
    regions = [world.region(name) for name in world.names]
    assert all(region.clock == regions[0].clock for region in regions)
    assert len({region.books.digest() for region in regions}) == 1
    for name in world.names:
        assert world.audit(name).findings == []
        assert world.audit(name).books_equal


class TestADamagedRow:
    @pytest.mark.parametrize("table", DERIVED)
    def test_is_never_believed_and_is_worked_out_again(self, table: Table) -> None:
        world = history("eu", "us")
        before = world.region("eu").books.digest(), world.reports("eu")
        assert keys(world, "eu", table)
        for key in keys(world, "eu", table):
            disk_of(world, "eu").damage(table, key, 7)
        mark(disk_of(world, "eu").write, f"the row of {table}")
        world.crash("eu")
        assert (world.region("eu").books.digest(), world.reports("eu")) == before
        assert rebuilt(world, "eu").startswith(f"the row of {table}; ")
        assert "0 wait for others before them, 0 commits of the journal were damaged" in rebuilt(world, "eu")
        agree(world)
        world.do("eu", release("deu"))
        world.exchange()
        agree(world)

    def test_stops_the_region_that_meets_it(self) -> None:
        world = history("eu", "us")
        world.crash("eu")
        world.region("eu").books.in_memory.clear()
        for key in keys(world, "eu", Table.KEYS):
            disk_of(world, "eu").damage(Table.KEYS, key, 7)
        with pytest.raises(DamagedRow, match="the row acme·key-1 of the table keys is not what was written"):
            world.submit("eu", grant("L", 100), "key-1")

    def test_of_a_scheduler_is_dropped_and_what_it_says_next_is_taken(self) -> None:
        world = history("eu", "us")
        said = {TENANT: [ScheduledJob(JobId("j"), JobState.RUNNING)]}
        world.region("eu").take_snapshot("slurm", world.now, said)
        world.land("eu")
        disk_of(world, "eu").damage(Table.SNAPSHOTS, b"slurm\0", 7)
        world.crash("eu")
        assert rebuilt(world, "eu").startswith("the row slurm· of the table snapshots is not what was written")
        assert world.region("eu").snapshots.sources() == []
        assert keys(world, "eu", Table.SNAPSHOTS) == []
        agree(world)
        world.region("eu").take_snapshot("slurm", world.now, said)
        assert list(world.region("eu").snapshots.of(TENANT)) == ["j"]

    @pytest.mark.parametrize("key", [LOW, RULES_KEY, CEILING, CEILING_AGAIN, REBUILD])
    def test_of_the_node_itself(self, key: bytes) -> None:
        world = history("eu", "us")
        before = world.region("eu").books.digest()
        if key == REBUILD:
            mark(disk_of(world, "eu").write, "why")
        disk_of(world, "eu").damage(Table.META, key, 11)
        if key == CEILING_AGAIN:
            mark(disk_of(world, "eu").write, "why")
        world.crash("eu")
        assert rebuilt(world, "eu")
        assert world.region("eu").books.digest() == before
        assert disk_of(world, "eu").get(Table.META, REBUILD) is None
        agree(world)

    def test_a_start_that_finds_nothing_wrong_rebuilds_nothing(self) -> None:
        world = history("eu", "us")
        world.crash("eu")
        assert world.region("eu").alarms.all() == []

    def test_a_store_of_other_rules_is_not_rebuilt(self) -> None:
        world = history("eu", "us")
        disk = disk_of(world, "eu")
        disk.write([(Table.META, RULES_KEY, checked(Table.META, RULES_KEY, pack("3")))])
        mark(disk.write, "why")
        rows = keys(world, "eu", Table.STATES)
        with pytest.raises(ForeignDirectory, match="under the rules «3»"):
            world.crash("eu")
        assert keys(world, "eu", Table.STATES) == rows

    def test_that_the_index_lacks_is_missed(self) -> None:
        world = history("eu", "us")
        last = [key for key in keys(world, "eu", Table.DOTS) if key.startswith(b"us/b2")][-1]
        disk_of(world, "eu").write([(Table.DOTS, last, None)])
        world.crash("eu")
        assert rebuilt(world, "eu").startswith("the journal's index does not end with us/b2:")
        agree(world)

    def test_a_journal_that_lost_its_last_commit_is_missed(self) -> None:
        world = history("eu", "us")
        world.exchange(3_000)
        last = keys(world, "eu", Table.LOG)[-1]
        disk_of(world, "eu").write([(Table.LOG, last, None)])
        world.crash("eu")
        assert rebuilt(world, "eu").startswith("the journal ends before commit")
        world.exchange(1_000)
        agree(world)


class TestPromises:
    @pytest.mark.parametrize("lost", [[CEILING], [CEILING_AGAIN], [CEILING, CEILING_AGAIN]])
    def test_hold_although_a_ceiling_is_lost(self, lost: list[bytes]) -> None:
        world = history("eu", "us")
        promised = world.region("eu").promise(world.now + 60_000)
        for key in lost:
            disk_of(world, "eu").damage(Table.META, key, 3)
        mark(disk_of(world, "eu").write, "why")
        world.crash("eu")
        assert world.do("eu", reserve("new", 1)).position.hlc > promised

    def test_none_is_given_while_a_peer_may_have_an_entry_of_ours_that_we_lost(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.exchange(400)
        world.part("us")
        world.do("eu", reserve("a", 10))
        world.exchange(400)
        world.part()
        last = keys(world, "eu", Table.LOG)[-1]
        disk_of(world, "eu").damage(Table.LOG, last, 1_000)
        world.crash("eu")
        world.land("eu")
        world.tick("eu")
        region = world.region("eu")
        assert region.clock == {"eu/b2": 1}
        assert region.promise(world.now) == -1, "ap may have it, and has"
        world.set_cut("eu", "us", False)
        world.exchange(400)
        assert region.promise(world.now) == -1, "us has not, but ap was not heard"
        world.set_cut("eu", "ap", False)
        world.exchange(1_000)
        assert region.clock == {"eu/b2": 2}
        assert region.promise(world.now) > 0
        details = [each.detail for each in region.alarms.all() if each.kind is AlarmKind.DAMAGED]
        assert details == ["all 2 entries that were known to be are here again"]

    def test_are_given_again_when_who_had_it_has_lost_it_too(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 10))
        world.exchange(400)
        world.part()
        disk_of(world, "eu").damage(Table.LOG, keys(world, "eu", Table.LOG)[-1], 1_000)
        world.crash("eu")
        world.set_cut("eu", "us", False)
        world.tick("eu")
        world.deliver(2)
        region = world.region("eu")
        assert region.clock == {"eu/b1": 1}, "hello was said, and no more"
        assert region.promise(world.now) == -1, "us has it"
        world.part()
        world.lose_disk("us")
        world.meet()
        world.exchange(1_000)
        assert region.promise(world.now) > 0
        agree(world)

    def test_are_given_again_when_all_have_been_heard_and_nobody_has_it(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.exchange(400)
        world.part()
        world.do("eu", reserve("a", 10))
        disk_of(world, "eu").damage(Table.LOG, keys(world, "eu", Table.LOG)[-1], 1_000)
        world.crash("eu")
        assert world.region("eu").promise(world.now) == -1
        world.meet()
        world.exchange(1_000)
        assert world.region("eu").promise(world.now) > 0
        agree(world)
        world.crash("eu")
        assert [each.detail for each in world.region("eu").alarms.all()] == ["entries from 2 on were lost here"]


class TestADamagedTail:
    def test_what_peers_have_comes_back_and_what_waits_behind_it_is_kept(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 10))
        world.exchange(200)
        world.part()
        for claim in ("b", "c", "d"):
            world.do("eu", reserve(claim, 10))
        assert world.region("us").clock == {"eu/b1": 2}
        disk_of(world, "eu").damage(Table.LOG, number_key(2), 500)
        world.crash("eu")
        region = world.region("eu")
        assert region.clock == {"eu/b1": 1}
        assert "3 wait for others before them, 1 commits of the journal were damaged" in rebuilt(world, "eu")
        world.do("eu", reserve("e", 10))
        world.crash("eu")
        assert world.region("eu").clock == {"eu/b1": 1, "eu/b3": 1}
        world.meet()
        world.exchange(1_000)
        assert world.region("us").clock == {"eu/b1": 5, "eu/b3": 1}, "b, c, d were acknowledged, and only eu had them"
        agree(world)
        assert sorted(world.book("us").account.claims) == ["a", "b", "c", "d", "e"]
        assert keys(world, "eu", Table.ASIDE) == []

    def test_an_entry_that_nobody_else_has_is_missed_for_ever_and_said_so(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.exchange(200)
        world.part()
        for claim in ("a", "b"):
            world.do("eu", reserve(claim, 10))
        disk_of(world, "eu").damage(Table.LOG, number_key(2), 500)
        world.crash("eu")
        world.meet()
        world.exchange(1_000)
        details = [each.detail for each in world.region("eu").alarms.all() if each.kind is AlarmKind.DAMAGED]
        assert details == ["entries from 2 on were lost here; those from 3 on are here and wait"]
        assert world.region("us").clock == world.region("eu").clock == {"eu/b1": 1}
        world.do("eu", reserve("c", 10))
        world.exchange()
        agree(world)
        assert len(keys(world, "eu", Table.ASIDE)) == 1

    @pytest.mark.parametrize("bit", [0, 9, 100, 777, 2_000])
    def test_of_a_commit_the_whole_entries_are_kept(self, bit: int) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        for claim in ("a", "b", "c", "d"):
            world.ask("eu", reserve(claim, 10))
        world.land("eu")
        disk_of(world, "eu").damage(Table.LOG, number_key(2), bit)
        world.crash("eu")
        kept = world.region("eu").clock["eu/b1"] - 1 + len(keys(world, "eu", Table.ASIDE))
        assert kept >= 3
        if kept == 4:
            assert world.region("eu").clock == {"eu/b1": 5}


class TestAProcessThatIsKilledDuringARebuild:
    def test_begins_again_at_its_next_start_wherever_it_was(self) -> None:
        interrupted = 0
        while self.is_interrupted_after(interrupted):
            interrupted += 1
        assert interrupted > 10, "every batch that a rebuild writes"

    def is_interrupted_after(self, batches: int) -> bool:
        world = history("eu", "us")
        before = world.region("eu").books.digest()
        disk = disk_of(world, "eu")
        disk.damage(Table.LOG, number_key(3), 1_500)
        mark(disk.write, "why")
        region = None
        with suppress(InterruptedError):
            region = opened(disk, dying(disk, batches), world.region("eu").settings, "bx", world.now)
        world.crash("eu")
        world.exchange(2_000)
        assert world.region("eu").books.digest() == before
        agree(world)
        return region is None


def dying(disk: MemoryDisk, batches: int) -> Callable[[Sequence[Write]], None]:
    """Writes some batches and no more."""
    left = batches

    def write(batch: Sequence[Write]) -> None:
        nonlocal left
        if not left:
            raise InterruptedError
        left -= 1
        disk.write(batch)

    return write
