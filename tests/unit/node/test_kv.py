"""The overlay and the disk in memory. That an overlay is one dict, whatever its disk, is in properties/."""

import pytest

from node.store.errors import DamagedRow
from node.store.kv import MAX_KEY_BYTES, MemoryDisk, Overlay, Row, Table, Write, checked


def number(n: int) -> bytes:
    return n.to_bytes(4, "big")


def row(table: Table, key: bytes, value: bytes) -> Write:
    """A row as it stands on a disk."""
    return table, key, checked(table, key, value)


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def overlay(disk: MemoryDisk) -> Overlay:
    return Overlay(disk)


class CountingDisk(MemoryDisk):
    """Counts the rows that it was made to read."""

    rows_read = 0

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int, reverse: bool = False) -> list[Row]:
        rows = super().scan(table, start, stop, limit, reverse)
        self.rows_read += len(rows)
        return rows


def test_a_write_is_seen_before_it_is_on_disk_while_it_is_in_flight_and_afterwards(
    disk: MemoryDisk, overlay: Overlay
) -> None:
    overlay.put(Table.KEYS, b"k", b"v")
    assert overlay.get(Table.KEYS, b"k") == b"v"
    batch = overlay.seal()
    assert overlay.get(Table.KEYS, b"k") == b"v"
    assert disk.get(Table.KEYS, b"k") is None
    disk.write(batch)
    overlay.landed()
    assert overlay.get(Table.KEYS, b"k") == b"v"


def test_after_a_batch_has_landed_the_disk_answers_for_it(overlay: Overlay) -> None:
    overlay.put(Table.KEYS, b"k", b"v")
    overlay.seal()
    overlay.landed()  # of a disk that lost it: the overlay must not pretend
    assert overlay.get(Table.KEYS, b"k") is None
    assert overlay.scan(Table.KEYS, b"", None, 10) == []


def test_a_batch_is_what_was_written_since_the_last_one_each_key_once(overlay: Overlay) -> None:
    overlay.put(Table.KEYS, b"a", b"1")
    overlay.put(Table.KEYS, b"a", b"2")
    overlay.delete(Table.LOTS, b"b")
    assert overlay.seal() == [row(Table.KEYS, b"a", b"2"), (Table.LOTS, b"b", None)]
    overlay.put(Table.KEYS, b"c", b"3")
    assert overlay.seal() == [row(Table.KEYS, b"c", b"3")]


def test_sealing_nothing_puts_nothing_in_flight(overlay: Overlay) -> None:
    overlay.put(Table.KEYS, b"a", b"1")
    assert overlay.seal()
    assert overlay.seal() == []
    overlay.landed()
    with pytest.raises(IndexError):
        overlay.landed()


def test_the_newest_of_several_batches_in_flight_is_seen(disk: MemoryDisk, overlay: Overlay) -> None:
    batches = []
    for value in (b"1", b"2", b"3"):
        overlay.put(Table.KEYS, b"k", value)
        batches.append(overlay.seal())
    for batch in batches:
        assert overlay.get(Table.KEYS, b"k") == b"3"
        assert overlay.scan(Table.KEYS, b"", None, 10) == [(b"k", b"3")]
        disk.write(batch)
        overlay.landed()
    assert overlay.get(Table.KEYS, b"k") == b"3"


def test_a_deletion_hides_what_is_on_disk_and_a_later_put_brings_the_key_back(
    disk: MemoryDisk, overlay: Overlay
) -> None:
    disk.write([row(Table.KEYS, b"k", b"old")])
    overlay.delete(Table.KEYS, b"k")
    overlay.seal()
    assert overlay.get(Table.KEYS, b"k") is None
    assert overlay.scan(Table.KEYS, b"", None, 10) == []
    overlay.put(Table.KEYS, b"k", b"new")
    assert overlay.get(Table.KEYS, b"k") == b"new"
    assert overlay.scan(Table.KEYS, b"", None, 10) == [(b"k", b"new")]


def test_tables_do_not_see_each_other(disk: MemoryDisk, overlay: Overlay) -> None:
    disk.write([row(Table.KEYS, b"k", b"v")])
    overlay.put(Table.LOTS, b"k", b"w")
    assert overlay.get(Table.KEYS, b"k") == b"v"
    assert overlay.get(Table.LOTS, b"k") == b"w"
    assert overlay.get(Table.META, b"k") is None


def test_an_empty_value_is_a_value(disk: MemoryDisk, overlay: Overlay) -> None:
    overlay.put(Table.KEYS, b"k", b"")
    assert overlay.get(Table.KEYS, b"k") == b""
    disk.write(overlay.seal())
    overlay.landed()
    assert overlay.get(Table.KEYS, b"k") == b""
    disk.write([(Table.KEYS, b"k", None)])
    assert disk.scan(Table.KEYS, b"", None, 1) == []


def test_a_scan_fills_its_limit_although_the_first_rows_on_disk_are_deleted(disk: MemoryDisk, overlay: Overlay) -> None:
    disk.write([row(Table.LOG, number(n), b"") for n in range(100)])
    for n in range(50):
        overlay.delete(Table.LOG, number(n))
    assert [key for key, _ in overlay.scan(Table.LOG, b"", None, 3)] == [number(50), number(51), number(52)]
    assert [key for key, _ in overlay.scan(Table.LOG, b"", number(52), 3)] == [number(50), number(51)]
    backwards = overlay.scan(Table.LOG, number(48), number(53), 2, reverse=True)
    assert [key for key, _ in backwards] == [number(52), number(51)]


def test_a_scan_reads_no_more_rows_than_it_may_need() -> None:
    disk = CountingDisk()
    disk.write([row(Table.LOG, number(n), b"") for n in range(1000)])
    overlay = Overlay(disk)
    for n in (1, 2, 500):
        overlay.delete(Table.LOG, number(n))
    overlay.scan(Table.LOG, b"", number(100), 10)
    assert disk.rows_read == 12  # 10 and the two deleted ones in the range


def test_a_scan_between_many_writes_finds_them_all_in_order(overlay: Overlay) -> None:
    for n in range(0, 300, 3):
        overlay.put(Table.LOG, number(n), b"")
    assert len(overlay.scan(Table.LOG, b"", None, 1000)) == 100
    for n in range(299, 0, -1):  # some new, some not; enough to be sorted at once, then a few to be inserted
        overlay.put(Table.LOG, number(n), b"x")
        if n in (150, 149, 148):
            assert [key for key, _ in overlay.scan(Table.LOG, number(n), None, 1000)] == [
                number(each) for each in range(n, 300)
            ]
    assert [key for key, _ in overlay.scan(Table.LOG, b"", None, 1000)] == [number(n) for n in range(300)]


@pytest.mark.parametrize("key", [b"", b"k" * (MAX_KEY_BYTES + 1)], ids=["empty", "too long"])
def test_a_key_that_no_disk_takes_is_found_at_once(disk: MemoryDisk, overlay: Overlay, key: bytes) -> None:
    with pytest.raises(AssertionError, match="a key of"):
        overlay.put(Table.KEYS, key, b"v")
    with pytest.raises(AssertionError, match="a key of"):
        disk.write([(Table.KEYS, key, b"v")])


def test_the_longest_key_is_taken(disk: MemoryDisk) -> None:
    disk.write([(Table.KEYS, b"k" * MAX_KEY_BYTES, b"v")])
    assert disk.get(Table.KEYS, b"k" * MAX_KEY_BYTES) == b"v"


def test_a_range_that_ends_before_it_starts_is_empty(disk: MemoryDisk, overlay: Overlay) -> None:
    disk.write([row(Table.KEYS, number(n), b"") for n in range(10)])
    overlay.put(Table.KEYS, number(5), b"x")
    for reverse in (False, True):
        assert disk.scan(Table.KEYS, number(7), number(3), 10, reverse) == []
        assert overlay.scan(Table.KEYS, number(7), number(3), 10, reverse) == []


def test_a_scan_of_memory_keeps_to_its_limit_in_both_directions(disk: MemoryDisk) -> None:
    disk.write([(Table.KEYS, number(n), b"") for n in range(10)])
    assert [key for key, _ in disk.scan(Table.KEYS, b"", None, 2)] == [number(0), number(1)]
    assert [key for key, _ in disk.scan(Table.KEYS, b"", None, 2, reverse=True)] == [number(9), number(8)]
    assert [key for key, _ in disk.scan(Table.KEYS, number(4), number(6), 9, reverse=True)] == [number(5), number(4)]


@pytest.mark.parametrize("value", [b"", b"v", b"a longer value" * 100])
def test_no_flipped_bit_is_ever_read(value: bytes) -> None:
    for bit in range(min(2_000, 8 * (len(value) + 4))):
        disk = MemoryDisk()
        disk.write([row(Table.LOTS, b"acme\0M", value), row(Table.LOTS, b"acme\0N", value)])
        disk.damage(Table.LOTS, b"acme\0M", bit)
        overlay = Overlay(disk)
        with pytest.raises(DamagedRow, match=r"the row acme·M of the table lots is not what was written"):
            overlay.get(Table.LOTS, b"acme\0M")
        with pytest.raises(DamagedRow, match="acme·M"):
            overlay.scan(Table.LOTS, b"", None, 10)
        assert overlay.get(Table.LOTS, b"acme\0N") == value


def test_what_was_written_under_another_key_or_in_another_table_is_not_read(disk: MemoryDisk, overlay: Overlay) -> None:
    _, _, stored = row(Table.LOTS, b"acme\0M", b"v")
    disk.write([(Table.LOTS, b"acme\0N", stored), (Table.OPEN, b"acme\0M", stored), (Table.META, b"short", b"abc")])
    for table, key in ((Table.LOTS, b"acme\0N"), (Table.OPEN, b"acme\0M"), (Table.META, b"short")):
        with pytest.raises(DamagedRow):
            overlay.get(table, key)


def test_damage_below_a_newer_value_does_not_matter(disk: MemoryDisk, overlay: Overlay) -> None:
    disk.write([row(Table.LOTS, b"k", b"old"), row(Table.LOTS, b"l", b"other")])
    disk.damage(Table.LOTS, b"k", 3)
    overlay.put(Table.LOTS, b"k", b"new")
    assert overlay.get(Table.LOTS, b"k") == b"new"
    assert overlay.scan(Table.LOTS, b"", None, 10) == [(b"k", b"new"), (b"l", b"other")]


def test_a_damaged_value_differs_in_one_bit() -> None:
    disk = MemoryDisk()
    disk.write([(Table.META, b"a", b"\x00\x00"), (Table.META, b"b", b"\x00\x00")])
    disk.damage(Table.META, b"a", 9)
    assert disk.get(Table.META, b"a") == b"\x00\x02"
    assert disk.get(Table.META, b"b") == b"\x00\x00"
    disk.damage(Table.META, b"a", 9 + 16)
    assert disk.get(Table.META, b"a") == b"\x00\x00"
