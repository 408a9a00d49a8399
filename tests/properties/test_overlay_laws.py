"""An overlay is one ordered dict, whatever is written, sealed and landed in between, and whatever disk lies below."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.store.kv import Disk, MemoryDisk, Overlay, Row, Table, Write
from node.store.lmdb_disk import LmdbDisk

TABLES = [Table.LOG, Table.KEYS]
keys = st.binary(min_size=1, max_size=2) | st.integers(0, 99).map(lambda n: b"n%02d" % n)
values = st.binary(max_size=3)


@dataclass(frozen=True)
class Put:
    table: Table
    key: bytes
    value: bytes | None  # None deletes


@dataclass(frozen=True)
class Fill:
    """Many neighbours at once, or their deletion: the batches of the real thing are not a handful of keys."""

    table: Table
    first: int
    count: int
    value: bytes | None


@dataclass(frozen=True)
class Seal:
    pass


@dataclass(frozen=True)
class Land:
    pass


@dataclass(frozen=True)
class Scan:
    table: Table
    start: bytes
    stop: bytes | None
    limit: int
    reverse: bool


Step = Put | Fill | Seal | Land | Scan
tables = st.sampled_from(TABLES)
steps = st.lists(
    st.builds(Put, tables, keys, values | st.none())
    | st.builds(Fill, tables, st.integers(0, 99), st.integers(1, 60), values | st.none())
    | st.builds(Seal)
    | st.builds(Land)
    | st.builds(Scan, tables, keys | st.just(b""), keys | st.none(), st.integers(1, 50), st.booleans()),
    max_size=40,
)


def expected(rows: dict[bytes, bytes], scan: Scan) -> list[Row]:
    within = [row for row in sorted(rows.items()) if row[0] >= scan.start and (scan.stop is None or row[0] < scan.stop)]
    return (within[::-1] if scan.reverse else within)[: scan.limit]


def behaves_like_one_dict(disk: Disk, write: Callable[[list[Write]], None], story: list[Step]) -> None:
    overlay = Overlay(disk)
    model: dict[Table, dict[bytes, bytes]] = {table: {} for table in TABLES}
    in_flight: list[list[Write]] = []

    def put(table: Table, key: bytes, value: bytes | None) -> None:
        if value is None:
            overlay.delete(table, key)
            model[table].pop(key, None)
        else:
            overlay.put(table, key, value)
            model[table][key] = value

    for step in story:
        match step:
            case Put(table, key, value):
                put(table, key, value)
            case Fill(table, first, count, value):
                for n in range(first, first + count):
                    put(table, b"n%02d" % n, value)
            case Seal():
                if batch := overlay.seal():
                    in_flight.append(batch)
            case Land():
                if in_flight:
                    write(in_flight.pop(0))
                    overlay.landed()
            case Scan(table, start, stop, limit, reverse):
                assert overlay.scan(table, start, stop, limit, reverse) == expected(model[table], step)

    for table in TABLES:
        whole = Scan(table, b"", None, 1000, False)
        assert overlay.scan(table, b"", None, 1000) == expected(model[table], whole)
        touched = {step.key for step in story if isinstance(step, Put)} | {b"n%02d" % n for n in range(160)}
        for key in touched:
            assert overlay.get(table, key) == model[table].get(key)

    if batch := overlay.seal():
        in_flight.append(batch)
    for batch in in_flight:
        write(batch)
        overlay.landed()
    for table in TABLES:
        assert Overlay(disk).scan(table, b"", None, 1000) == sorted(model[table].items())


@settings(max_examples=200, deadline=None)
@given(steps)
def test_an_overlay_on_memory_is_one_dict(story: list[Step]) -> None:
    disk = MemoryDisk()
    behaves_like_one_dict(disk, disk.write, story)


@pytest.fixture(scope="module")
def lmdb_disk() -> Iterator[LmdbDisk]:
    with (
        tempfile.TemporaryDirectory() as path,
        closing(LmdbDisk(Path(path) / "store", cluster="c", region="r", map_bytes=1 << 24)) as disk,
    ):
        yield disk


@settings(max_examples=60, deadline=None)
@given(steps)
def test_an_overlay_on_lmdb_is_one_dict(lmdb_disk: LmdbDisk, story: list[Step]) -> None:
    lmdb_disk.commit_now(
        [(table, key, None) for table in TABLES for key, _ in lmdb_disk.scan(table, b"", None, 10_000)]
    )
    behaves_like_one_dict(lmdb_disk, lmdb_disk.commit_now, story)
