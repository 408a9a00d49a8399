"""What schedulers say of their jobs: whole snapshots, one in the place of the other."""

import pytest

from ledger.ids import JobId, TenantId
from ledger.refusal import Reason, Refusal
from node.region import Received
from node.snapshots import MAX_SOURCES, JobState, ScheduledJob, Snapshots, Source, Told
from node.store.errors import DamagedRow
from node.store.kv import MemoryDisk, Overlay, Table
from tests.regions import Regions, grant
from tests.world import START_MS, TENANT

OTHER = TenantId("other")


def running(name: str) -> ScheduledJob:
    return ScheduledJob(JobId(name), JobState.RUNNING, started_at=5)


def finished(name: str) -> ScheduledJob:
    return ScheduledJob(JobId(name), JobState.FINISHED, 5, 9)


class Store:
    """Snapshots over a disk, and what a restart makes of them."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.restart()

    def restart(self) -> None:
        self.overlay = Overlay(self.disk)
        self.snapshots = Snapshots(self.overlay)

    def land(self) -> int:
        """What has been written is on disk; returns how many rows that were."""
        batch = self.overlay.seal()
        self.disk.write(batch)
        if batch:
            self.overlay.landed()
        return len(batch)


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_snapshot_is_there_at_once_and_after_a_restart(store: Store) -> None:
    assert store.snapshots.replace("slurm", 10, {TENANT: [running("b"), finished("a")], OTHER: [running("c")]})
    for _ in range(2):
        assert store.snapshots.sources() == [Source("slurm", 10, 3)]
        assert list(store.snapshots.tenants()) == [TENANT, OTHER]
        assert store.snapshots.of(TENANT) == {
            "a": Told("slurm", 10, finished("a")),
            "b": Told("slurm", 10, running("b")),
        }
        store.land()
        store.restart()


def test_what_had_not_landed_is_gone_with_the_process(store: Store) -> None:
    store.snapshots.replace("slurm", 10, {TENANT: [running("a")]})
    store.land()
    store.snapshots.replace("slurm", 20, {TENANT: [running("b")]})
    store.restart()
    assert store.snapshots.sources() == [Source("slurm", 10, 1)]
    assert list(store.snapshots.of(TENANT)) == ["a"]


def test_it_replaces_all_that_the_same_source_said_before_and_nothing_else(store: Store) -> None:
    store.snapshots.replace("slurm", 10, {TENANT: [running("a")], OTHER: [running("c")]})
    store.snapshots.replace("k8s", 10, {OTHER: [running("d")]})
    store.snapshots.replace("slurm", 20, {TENANT: [running("b")]})
    assert list(store.snapshots.of(TENANT)) == ["b"]
    assert list(store.snapshots.of(OTHER)) == ["d"]
    assert store.snapshots.sources() == [Source("k8s", 10, 1), Source("slurm", 20, 1)]


def test_one_that_is_older_than_what_is_there_comes_too_late(store: Store) -> None:
    store.snapshots.replace("slurm", 20, {TENANT: [running("b")]})
    assert not store.snapshots.replace("slurm", 19, {TENANT: [running("a")]})
    assert list(store.snapshots.of(TENANT)) == ["b"]
    assert store.snapshots.replace("slurm", 20, {TENANT: [running("c")]}), "of the same time it may be a correction"
    assert list(store.snapshots.of(TENANT)) == ["c"]


def test_an_empty_one_forgets_the_source(store: Store) -> None:
    store.snapshots.replace("slurm", 20, {TENANT: [running("b")]})
    assert store.snapshots.replace("slurm", 30, {})
    assert store.snapshots.sources() == []
    store.land()
    assert store.disk.scan(Table.SNAPSHOTS, b"", None, 10) == []


def test_of_two_sources_the_one_that_spoke_last_is_believed(store: Store) -> None:
    store.snapshots.replace("a", 20, {TENANT: [finished("j")]})
    store.snapshots.replace("b", 10, {TENANT: [running("j"), running("k")]})
    assert store.snapshots.of(TENANT) == {"j": Told("a", 20, finished("j")), "k": Told("b", 10, running("k"))}


def test_what_is_as_it_was_is_not_written_again(store: Store) -> None:
    tenants = [TenantId(f"t{number}") for number in range(20)]
    store.snapshots.replace("slurm", 10, {tenant: [running("a")] for tenant in tenants})
    assert store.land() == 21
    store.snapshots.replace("slurm", 20, {tenant: [running("a")] for tenant in tenants[1:]} | {tenants[0]: []})
    assert store.land() == 2, "its time, and the tenant whose jobs have changed"


def test_a_damaged_row_is_not_believed(store: Store) -> None:
    store.snapshots.replace("slurm", 10, {TENANT: [running("a")]})
    store.land()
    store.disk.damage(Table.SNAPSHOTS, b"slurm\0acme", 13)
    with pytest.raises(DamagedRow, match="snapshots"):
        store.snapshots.of(TENANT)
    store.disk.damage(Table.SNAPSHOTS, b"slurm\0", 13)
    with pytest.raises(DamagedRow, match="snapshots"):
        store.restart()


class TestAtARegion:
    def test_tenants_that_do_not_exist_here_are_named_and_kept(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        world.exchange(2_000)
        told = {TENANT: [running("a")], OTHER: [running("b")]}
        received = world.region("eu").take_snapshot("slurm", START_MS, told)
        assert received == Received(True, Source("slurm", START_MS, 2), [OTHER])
        assert list(world.region("eu").snapshots.of(OTHER)) == ["b"]

    def test_a_tenant_that_is_on_disk_only_exists_too(self) -> None:
        world = Regions("eu", tenants_in_memory=0)
        world.do("eu", grant("L", 100))
        world.exchange(3_000)
        assert not world.region("eu").books.in_memory
        received = world.region("eu").take_snapshot("slurm", START_MS, {TENANT: [running("a")]})
        assert isinstance(received, Received)
        assert received.unknown == []
        assert not world.region("eu").books.in_memory, "nothing is read for it"

    def test_a_late_one_is_answered_with_what_stands(self) -> None:
        region = Regions("eu").region("eu")
        region.take_snapshot("slurm", 20, {TENANT: [running("a")]})
        assert region.take_snapshot("slurm", 10, {}) == Received(False, Source("slurm", 20, 1), [])

    def test_there_are_not_more_sources_than_a_node_can_look_through(self) -> None:
        region = Regions("eu").region("eu")
        for number in range(MAX_SOURCES):
            assert isinstance(region.take_snapshot(f"s{number}", 10, {TENANT: [running("a")]}), Received)
        refused = region.take_snapshot("one-more", 10, {TENANT: [running("a")]})
        assert isinstance(refused, Refusal)
        assert (refused.reason, refused.fields["field"]) == (Reason.INVALID_REQUEST, "source")
        assert isinstance(region.take_snapshot("s7", 11, {}), Received)
        assert isinstance(region.take_snapshot("one-more", 10, {TENANT: [running("a")]}), Received)
