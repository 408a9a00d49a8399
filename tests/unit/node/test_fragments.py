"""What can be read of a damaged commit: every entry that is whole, and nothing else, whatever has flipped."""

from node.store.fragments import whole_entries
from node.store.kv import MemoryDisk, Table
from node.store.rows import number_key
from tests.regions import Regions, grant, reserve

ENTRIES = 4


def stored() -> bytes:
    """A commit of four entries as it stands on the disk."""
    world = Regions("eu")
    world.ask("eu", grant("L", 100))
    for claim in ("a", "b"):
        world.ask("eu", reserve(claim, 10))
    world.ask("eu", grant("M", 100), key="so-long-that-the-header-is-longer-" * 5)
    world.land("eu")
    disk = world.members["eu"].disk
    assert isinstance(disk, MemoryDisk)
    value = disk.get(Table.LOG, number_key(1))
    assert value is not None
    return value


def flipped(value: bytes, bit: int) -> bytes:
    damaged = bytearray(value)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_all_are_found_in_order_where_nothing_is_damaged() -> None:
    assert [entry.seq for entry, _ in whole_entries(stored())] == [1, 2, 3, 4]


def test_no_flipped_bit_costs_more_than_the_entry_that_it_is_in() -> None:
    value = stored()
    whole = {sealed for _, sealed in whole_entries(value)}
    for bit in range(8 * len(value)):
        found = [sealed for _, sealed in whole_entries(flipped(value, bit))]
        assert whole.issuperset(found)
        assert len(found) >= ENTRIES - 1


def test_a_header_that_is_damaged_costs_nothing() -> None:
    value = stored()
    for _, sealed in whole_entries(value):
        header = value.index(sealed) - 1
        assert len(list(whole_entries(flipped(value, 8 * header)))) == ENTRIES


def test_what_is_cut_off_or_overwritten_costs_what_stood_there() -> None:
    value = stored()
    second = list(whole_entries(value))[1][1]
    end = value.index(second) + len(second)
    assert [entry.seq for entry, _ in whole_entries(value[:end])] == [1, 2]
    assert [entry.seq for entry, _ in whole_entries(value[: end - 1])] == [1]
    zeroed = value[: end - 100] + bytes(150) + value[end + 50 :]
    assert [entry.seq for entry, _ in whole_entries(zeroed)] == [1, 4]


def test_nothing_is_found_in_nothing_or_in_rubbish() -> None:
    assert list(whole_entries(b"")) == []
    assert list(whole_entries(b"\x9d\x01" * 1_000)) == []
