"""The tap sees what LMDB asks of the kernel, all of it, and can answer in the kernel's place."""

import errno
import os
from contextlib import closing
from pathlib import Path

import lmdb
import pytest

from node.store.errors import DiskFull
from node.store.kv import Table
from node.store.lmdb_disk import LmdbDisk
from tests.disk.linkage import slots_of
from tests.disk.tap import Call, Proceed, lmdb_module, tapped


def store(path: Path) -> LmdbDisk:
    return LmdbDisk(path, cluster="c1", region="eu-west")


def test_a_commit_is_pages_then_a_sync_then_the_head_that_makes_it_current_through_a_synced_descriptor(
    tmp_path: Path,
) -> None:
    calls: list[Call] = []

    def handle(call: Call, proceed: Proceed) -> int:
        calls.append(call)
        return proceed()

    with tapped(tmp_path, handle), closing(store(tmp_path / "store")) as disk:
        calls.clear()
        disk.commit_now([(Table.LOG, b"k", b"v" * 10_000)])
        *pages, sync, head = calls
    data = tmp_path / "store" / "data.mdb"
    assert {call.path for call in calls} == {data}
    assert all(call.is_write and not call.is_synced and call.offset >= 2 * 4096 for call in pages)
    assert sum(len(call.data) for call in pages) >= 10_000
    assert sync.name == "fdatasync"
    assert (head.is_write, head.is_synced, head.offset < 2 * 4096) == (True, True, True)
    for call in calls:
        assert data.read_bytes()[call.offset : call.offset + len(call.data)] == call.data


def test_a_first_start_is_written_under_another_name_synced_and_renamed_before_anything_else(tmp_path: Path) -> None:
    told: list[str] = []

    def handle(call: Call, proceed: Proceed) -> int:
        told.append(f"{call.name} {call.path.name}")
        return proceed()

    with tapped(tmp_path, handle):
        store(tmp_path / "store").close()
    assert told[:2] == ["mkdir store", f"fsync {tmp_path.name}"]
    made = told[told.index("open data.mdb.new") : told.index("rename data.mdb.new") + 2]
    assert made[-4:] == ["fdatasync data.mdb.new", "pwrite data.mdb.new", "rename data.mdb.new", "fsync store"]


def test_lmdb_hears_the_error_that_the_handler_gives(tmp_path: Path) -> None:
    is_full = False

    def handle(call: Call, proceed: Proceed) -> int:
        if is_full and call.is_write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return proceed()

    with tapped(tmp_path, handle), closing(store(tmp_path / "store")) as disk:
        is_full = True
        with pytest.raises(DiskFull, match="No space left on device; make room"):
            disk.commit_now([(Table.LOG, b"k", b"v")])


def test_a_handler_that_is_wrong_is_told_when_the_tap_is_left(tmp_path: Path) -> None:
    def handle(call: Call, proceed: Proceed) -> int:
        assert not call.is_write, "never expected a write"
        return proceed()

    with pytest.raises(AssertionError, match="never expected a write"), tapped(tmp_path, handle):
        lmdb.open(str(tmp_path / "env"), map_size=1 << 20)


def test_other_directories_and_what_comes_after_are_left_alone(tmp_path: Path) -> None:
    def handle(call: Call, _: Proceed) -> int:
        raise AssertionError(call)

    with tapped(tmp_path / "watched", handle):
        store(tmp_path / "elsewhere").close()
    store(tmp_path / "watched").close()


def test_a_store_that_writes_through_memory_would_slip_by_and_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="written through memory"),
        tapped(tmp_path, lambda _, proceed: proceed()),
    ):
        lmdb.open(str(tmp_path / "env"), map_size=1 << 20, writemap=True)


def test_every_slot_is_given_back(tmp_path: Path) -> None:
    def all_slots() -> dict[int, bytes]:
        with Path("/proc/self/mem").open("rb", buffering=0) as memory:
            return {
                slot: os.pread(memory.fileno(), 8, slot) for slots in slots_of(lmdb_module()).values() for slot in slots
            }

    store(tmp_path / "first").close()  # functions are found when they are first called
    before = all_slots()
    with tapped(tmp_path, lambda _, proceed: proceed()):
        store(tmp_path / "second").close()
        assert all_slots() != before
    assert all_slots() == before
