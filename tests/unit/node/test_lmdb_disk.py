"""The LMDB disk: what it keeps, how it grows, and how it stops. Whose directory it is: test_directory.py."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import lmdb
import pytest

from node.store.errors import DamagedStore, DiskFull, StorageError
from node.store.kv import MAX_KEY_BYTES, Table, Write, checked
from node.store.lmdb_disk import LmdbDisk

PAGE = 4096
SMALL_MAP = 64 * PAGE


def store(path: Path, **sizes: int) -> LmdbDisk:
    return LmdbDisk(path, cluster="c1", region="eu-west", **sizes)


def number(n: int) -> bytes:
    return n.to_bytes(8, "big")


def value(n: int, size: int = 100) -> bytes:
    return checked(Table.LOG, number(n), b"%d" % n * size)


def numbered(numbers: Sequence[int], size: int = 100) -> list[Write]:
    return [(Table.LOG, number(n), value(n, size)) for n in numbers]


def numbers_in(disk: LmdbDisk) -> list[int]:
    return [int.from_bytes(key, "big") for key, _ in disk.scan(Table.LOG, b"", None, 1_000_000)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def disk(path: Path) -> Iterator[LmdbDisk]:
    with closing(store(path)) as disk:
        yield disk


def in_a_process(program: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Keeping


def test_what_was_committed_is_there_after_reopening_in_every_table(path: Path) -> None:
    with closing(store(path)) as disk:
        disk.commit_now([(table, b"k", table.encode()) for table in Table])
        disk.commit_now([(Table.LOTS, b"k", None), (Table.LOTS, b"never was", None)])
    with closing(store(path)) as disk:
        kept = {table: disk.get(table, b"k") for table in Table}
    assert kept == {table: None if table is Table.LOTS else table.encode() for table in Table}


KEEPS_WRITING = """
import sys
from pathlib import Path
from node.store.kv import Table
from node.store.lmdb_disk import LmdbDisk
disk = LmdbDisk(Path(sys.argv[1]), cluster="c1", region="eu-west")
for n in range(10**9):
    disk.commit_now([(Table.LOG, (2 * n + half).to_bytes(8, "big"), b"v") for half in (0, 1)])
    print(n, flush=True)
"""


def test_a_killed_process_leaves_every_batch_that_it_acknowledged_and_no_half_of_one(path: Path) -> None:
    with in_a_process(KEEPS_WRITING, path) as process:
        assert process.stdout is not None
        for _ in range(20):
            acknowledged = int(process.stdout.readline())
        process.kill()
        acknowledged = int(([acknowledged, *map(int, process.stdout.read().split())])[-1])
    with closing(store(path)) as disk:
        found = numbers_in(disk)
    assert len(found) >= 2 * (acknowledged + 1)
    assert found == list(range(len(found)))
    assert len(found) % 2 == 0


def test_a_read_sees_the_last_commit_and_nothing_of_the_next_one(disk: LmdbDisk) -> None:
    disk.commit_now([(Table.KEYS, b"k", b"1")])
    seen_in_done: SimpleQueue[bytes | None] = SimpleQueue()
    disk.commit([(Table.KEYS, b"k", b"2")], lambda _: seen_in_done.put(disk.get(Table.KEYS, b"k")))
    assert seen_in_done.get() == b"2"


def test_scans_keep_to_their_range_and_limit_in_both_directions(disk: LmdbDisk) -> None:
    disk.commit_now(numbered(range(10)))

    def scanned(start: int | None, stop: int | None, limit: int, reverse: bool) -> list[int]:
        low = b"" if start is None else number(start)
        high = None if stop is None else number(stop)
        return [int.from_bytes(key, "big") for key, _ in disk.scan(Table.LOG, low, high, limit, reverse)]

    assert scanned(None, None, 3, False) == [0, 1, 2]
    assert scanned(None, None, 3, True) == [9, 8, 7]
    assert scanned(4, 7, 9, False) == [4, 5, 6]
    assert scanned(4, 7, 9, True) == [6, 5, 4]
    assert scanned(8, 99, 9, False) == [8, 9]
    assert scanned(8, 99, 9, True) == [9, 8]
    assert scanned(10, None, 9, False) == scanned(10, None, 9, True) == []
    assert scanned(7, 4, 9, False) == scanned(7, 4, 9, True) == []
    assert disk.scan(Table.KEYS, b"", None, 9) == disk.scan(Table.KEYS, b"", None, 9, True) == []


def test_keys_of_the_greatest_length_and_values_of_many_pages_are_kept(disk: LmdbDisk) -> None:
    disk.commit_now([(Table.LOG, b"k" * MAX_KEY_BYTES, b"v" * 1_000_000)])
    assert disk.get(Table.LOG, b"k" * MAX_KEY_BYTES) == b"v" * 1_000_000


# Committing


def test_done_is_called_in_the_writer_thread_and_the_next_commit_need_not_wait(disk: LmdbDisk) -> None:
    done: SimpleQueue[tuple[StorageError | None, str]] = SimpleQueue()
    for n in range(50):
        disk.commit(numbered([n]), lambda error: done.put((error, threading.current_thread().name)))
        assert done.get() == (None, "store-writer")
    assert numbers_in(disk) == list(range(50))


@pytest.mark.usefixtures("unhurried_threads")
def test_a_second_commit_in_flight_is_a_fault_of_the_host(disk: LmdbDisk) -> None:
    done: SimpleQueue[StorageError | None] = SimpleQueue()
    disk.commit(numbered([1]), done.put)
    with pytest.raises(AssertionError, match="in flight"):
        disk.commit(numbered([2]), done.put)
    assert done.get() is None
    assert numbers_in(disk) == [1]


@pytest.fixture
def unhurried_threads() -> Iterator[None]:
    """The thread that runs keeps running until it waits: so what it does next comes before what others do."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(interval)


# Growing


@contextmanager
def busy_readers(disk: LmdbDisk) -> Iterator[None]:
    """Two threads that read the first hundred numbers over and over, and must find them whenever they look."""
    stop = threading.Event()
    wrong: SimpleQueue[object] = SimpleQueue()

    def get() -> bool:
        return disk.get(Table.LOG, number(7)) == value(7)

    def scan() -> bool:
        return len(disk.scan(Table.LOG, b"", number(100), 1000)) == 100

    def read(finds_it: Callable[[], bool]) -> None:
        try:
            while not stop.is_set():
                assert finds_it()
        except (AssertionError, StorageError, lmdb.Error) as error:
            wrong.put(error)

    readers = [threading.Thread(target=read, args=(finds_it,)) for finds_it in (get, scan)]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert wrong.empty(), wrong.get()


def test_the_map_grows_while_batches_arrive_and_other_threads_read(path: Path) -> None:
    with closing(store(path, map_bytes=SMALL_MAP)) as disk:
        disk.commit_now(numbered(range(100)))
        with busy_readers(disk):
            for n in range(100, 2000, 20):
                disk.commit_now(numbered(range(n, n + 20), size=500))
        assert disk.size_bytes() > 8 * SMALL_MAP
        assert numbers_in(disk) == list(range(2000))


def test_ordinary_batches_never_meet_a_full_map(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_again(_: Sequence[Write]) -> None:
        raise StorageError("the map was full")

    with closing(store(path, map_bytes=SMALL_MAP)) as disk:
        monkeypatch.setattr(disk, "_write_again", write_again)
        for n in range(0, 2000, 20):
            disk.commit_now(numbered(range(n, n + 20), size=500))
        assert disk.size_bytes() > 8 * SMALL_MAP


def test_a_batch_that_is_larger_than_the_map_is_not_lost_whoever_reads_meanwhile(path: Path) -> None:
    with closing(store(path, map_bytes=SMALL_MAP)) as disk:
        disk.commit_now(numbered(range(100)))
        with busy_readers(disk):
            disk.commit_now(numbered(range(100, 200), size=30_000))
            disk.commit_now(numbered([200]))
        assert numbers_in(disk) == list(range(201))
        assert disk.size_bytes() > 20 * SMALL_MAP


def test_a_store_that_outgrew_its_first_map_opens_and_goes_on(path: Path) -> None:
    with closing(store(path, map_bytes=SMALL_MAP)) as disk:
        disk.commit_now(numbered(range(2000), size=1000))
    with closing(store(path, map_bytes=SMALL_MAP)) as disk:
        disk.commit_now(numbered(range(2000, 4000), size=1000))
        assert numbers_in(disk) == list(range(4000))


def test_at_its_limit_the_store_says_so_and_keeps_what_it_has(path: Path) -> None:
    with closing(store(path, map_bytes=SMALL_MAP, max_map_bytes=3 * SMALL_MAP)) as disk:
        disk.commit_now(numbered(range(100)))
        room = disk.free_bytes()
        assert 0 < room < 3 * SMALL_MAP
        with pytest.raises(DiskFull, match=r"limit of 786,432 bytes; raise the limit"):
            disk.commit_now(numbered(range(100, 2100), size=1000))
    with closing(store(path, map_bytes=SMALL_MAP, max_map_bytes=100 * SMALL_MAP)) as disk:
        assert numbers_in(disk) == list(range(100))
        disk.commit_now(numbered(range(100, 2100), size=1000))
        assert numbers_in(disk) == list(range(2100))


# Failing


FILLS_THE_DISK = """
import resource, sys
from pathlib import Path
from node.store.errors import DiskFull, StorageError
from node.store.kv import Table
from node.store.lmdb_disk import LmdbDisk
disk = LmdbDisk(Path(sys.argv[1]), cluster="c1", region="eu-west")
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
written = 0
try:
    while True:
        disk.commit_now([(Table.LOG, written.to_bytes(8, "big"), b"v" * 50_000)])
        written += 1
except DiskFull as error:
    print(written, error, sep="|")
try:
    disk.commit_now([(Table.LOG, b"after", b"")])
except DiskFull:
    print("refused")
disk.close()
"""


def test_a_full_disk_is_told_and_leaves_every_batch_that_was_acknowledged(path: Path) -> None:
    with in_a_process(FILLS_THE_DISK, path) as process:
        output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    first, second = output.splitlines()
    written, message = first.split("|")
    assert "make room" in message
    assert second == "refused"
    assert int(written) > 10
    with closing(store(path)) as disk:
        assert numbers_in(disk) == list(range(int(written)))
        disk.commit_now(numbered([int(written)]))


def test_after_the_first_error_everything_is_refused_for_the_same_reason(path: Path, disk: LmdbDisk) -> None:
    disk.commit_now([(Table.LOG, b"before", b"")])
    done: SimpleQueue[StorageError | None] = SimpleQueue()
    too_long = b"k" * (MAX_KEY_BYTES + 1)
    disk.commit([(Table.LOG, b"with it", b""), (Table.LOG, too_long, b"")], done.put)
    error = done.get()
    assert isinstance(error, StorageError)
    assert "MDB_BAD_VALSIZE" in str(error)
    with pytest.raises(StorageError, match="MDB_BAD_VALSIZE"):
        disk.commit([(Table.LOG, b"after", b"")], done.put)
    with pytest.raises(StorageError, match="MDB_BAD_VALSIZE"):
        disk.get(Table.LOG, b"before")
    with pytest.raises(StorageError, match="MDB_BAD_VALSIZE"):
        disk.scan(Table.LOG, b"", None, 1)
    disk.close()
    assert done.empty()
    with closing(store(path)) as again:
        assert [key for key, _ in again.scan(Table.LOG, b"", None, 9)] == [b"before"]


def test_a_host_whose_done_raises_can_still_close(path: Path, disk: LmdbDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: SimpleQueue[Any] = SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", raised.put)

    def done(_: StorageError | None) -> None:
        raise RuntimeError("the loop is closed")

    disk.commit(numbered([1]), done)
    assert str(raised.get().exc_value) == "the loop is closed"
    with pytest.raises(StorageError, match="writer thread has ended"):
        disk.commit_now(numbered([2]))
    disk.close()
    with closing(store(path)) as again:
        assert numbers_in(again) == [1]


@pytest.mark.parametrize("pages", [3, 10], ids=["nearly all", "the end"])
def test_a_file_that_was_cut_off_is_refused_and_not_touched(path: Path, pages: int) -> None:
    with closing(store(path)) as disk:
        disk.commit_now(numbered(range(1000)))
    data = path / "data.mdb"
    whole = data.read_bytes()
    data.write_bytes(whole[: pages * PAGE])
    with pytest.raises(DamagedStore, match=r"cut off.*restore a backup"):
        store(path)
    assert data.read_bytes() == whole[: pages * PAGE]
    data.write_bytes(whole)
    with closing(store(path)) as disk:
        assert numbers_in(disk) == list(range(1000))


@pytest.mark.parametrize("garbage", [b"\0", b"\xff", b"not a store "])
@pytest.mark.parametrize("first_page", [0, 2], ids=["from the start", "behind the heads"])
def test_a_file_that_was_written_over_is_refused(path: Path, garbage: bytes, first_page: int) -> None:
    with closing(store(path)) as disk:
        disk.commit_now(numbered(range(1000)))
    data = path / "data.mdb"
    whole = data.read_bytes()
    kept = first_page * PAGE
    data.write_bytes(whole[:kept] + (garbage * len(whole))[: len(whole) - kept])
    with pytest.raises(DamagedStore, match=r"damaged.*restore a backup"):
        store(path)


def test_a_page_that_goes_bad_under_a_running_store_stops_it(path: Path) -> None:
    with closing(store(path)) as disk:
        disk.commit_now(numbered(range(1000)))
        data = path / "data.mdb"
        with data.open("r+b") as file:
            file.seek(2 * PAGE)
            file.write(b"\0" * (disk.size_bytes() - 2 * PAGE))
        with pytest.raises(DamagedStore, match="damaged"):
            disk.get(Table.LOG, number(500))
        with pytest.raises(DamagedStore, match="damaged"):
            disk.commit_now(numbered([1]))


# Closing


def test_an_idle_store_closes_although_its_next_transaction_is_open(path: Path) -> None:
    disk = store(path)
    disk.close()
    disk.close()
    with pytest.raises(StorageError, match="closed"):
        disk.get(Table.LOG, b"k")
    with pytest.raises(StorageError, match="closed"):
        disk.commit_now([])
    store(path).close()


def test_closing_waits_for_the_commit_in_flight(path: Path) -> None:
    disk = store(path)
    done: SimpleQueue[StorageError | None] = SimpleQueue()
    disk.commit(numbered(range(1000)), done.put)
    disk.close()
    assert done.get_nowait() is None
    with closing(store(path)) as again:
        assert numbers_in(again) == list(range(1000))


FORGETS_TO_CLOSE = """
import sys
from pathlib import Path
from node.store.lmdb_disk import LmdbDisk
disk = LmdbDisk(Path(sys.argv[1]), cluster="c1", region="eu-west")
sys.exit(3)
"""


def test_a_process_that_fails_without_closing_ends_all_the_same(path: Path) -> None:
    with in_a_process(FORGETS_TO_CLOSE, path) as process:
        _, errors = process.communicate()
    assert (process.returncode, errors) == (3, "")
    store(path).close()
