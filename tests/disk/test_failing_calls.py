"""Every call that a store makes to the disk fails once, and from then on, in each way in which calls fail.

Whatever fails, and wherever: the error is one of the store's and says what to do, the store refuses everything from
then on, and when the disk is well again every batch that was acknowledged is there and none is there by half.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from node.store.directory import DATA_FILE
from node.store.errors import DiskFull, StorageError
from node.store.kv import Table, Write
from node.store.lmdb_disk import LmdbDisk
from tests.disk.tap import Call, Proceed, tapped
from tests.powerloss.campaign import fast_directory
from tests.powerloss.judge import verify
from tests.powerloss.load import History, fingerprint

_BATCHES: Final = 7
_SMALL_MAP_BYTES: Final = 16 * 4096
_SHORT: Final = 0  # no errno: half of what was to be written is, and the call says so
_ADVICE: Final = {
    errno.ENOSPC: ("make room",),
    errno.EDQUOT: ("make room",),
    errno.EIO: ("see what the disk and the kernel's log say",),
    _SHORT: ("make room", "see what the disk and the kernel's log say"),  # LMDB calls it the one here, the other there
}


@dataclass(slots=True)
class FailingDisk:
    """The n-th call fails (1 is the first), and those after it if `for_good`."""

    number: int
    reason: int
    for_good: bool
    calls: int = 0
    failed: list[str] = field(default_factory=list)

    def handle(self, call: Call, proceed: Proceed) -> int:
        """Answer a call."""
        self.calls += 1
        if self.calls == self.number or (self.for_good and self.calls > self.number):
            self.failed.append(f"{call.name} {call.path.name}")
            if self.reason:
                raise OSError(self.reason, os.strerror(self.reason))
            if call.is_write and call.fd >= 0:
                half = call.data[: len(call.data) // 2]
                with Path(f"/proc/self/fd/{call.fd}").open("r+b", buffering=0) as file:
                    file.seek(call.offset)
                    file.write(half)
                return len(half)
        return proceed()


@dataclass(slots=True)
class Outcome:
    """What a run on a failing disk came to."""

    history: History = field(default_factory=History)
    acknowledged: int = 0
    error: StorageError | None = None


def batches() -> Iterator[list[Write]]:
    """Batches that add rows, replace them and take them away; the file and its map grow, and pages are used again."""
    for number in count(1):
        key = number.to_bytes(8, "big")
        yield [
            (Table.LOG, key, b"%d" % number * 3000),
            (Table.KEYS, key * 9, key),
            (Table.OPEN, b"claim", key * number),
            (Table.LOG, (number - 2).to_bytes(8, "big"), None) if number > 2 else (Table.DOTS, key, key),
        ]


def open_store(path: Path) -> LmdbDisk:
    """The store under test."""
    return LmdbDisk(path, cluster="c1", region="eu-west", map_bytes=_SMALL_MAP_BYTES)


def run(path: Path, disk: FailingDisk) -> Outcome:
    """Make a store and write to it until it fails, or for a while; after a failure it must refuse everything."""
    outcome = Outcome()
    with tapped(path, disk.handle):
        try:
            store = open_store(path)
        except StorageError as error:
            outcome.error = error
            return outcome
        with closing(store):
            outcome.error = write_until_it_fails(store, outcome)
            if outcome.error is not None:
                refusal = re.escape(str(outcome.error))
                with pytest.raises(type(outcome.error), match=refusal):
                    store.commit_now([])
                with pytest.raises(type(outcome.error), match=refusal):
                    store.get(Table.LOG, b"k")
    return outcome


def write_until_it_fails(store: LmdbDisk, outcome: Outcome) -> StorageError | None:
    """Some batches; the error that ended them, if any did."""
    for number, batch in zip(range(1, _BATCHES + 1), batches(), strict=False):
        outcome.history.add(batch)
        try:
            store.commit_now(batch)
        except StorageError as error:
            return error
        outcome.acknowledged = number
    return None


def wrong_after(path: Path, outcome: Outcome) -> list[str]:
    """What is wrong with the store when the disk is well again."""
    with closing(open_store(path)) as store:
        found = fingerprint({table: store.scan(table, b"", None, 1_000) for table in Table})
        possible = outcome.history.after[outcome.acknowledged :]
        wrong = [] if found in possible else [f"not as after batch {outcome.acknowledged} or the next one"]
        store.commit_now([(Table.LOG, b"afterwards", b"")])
        wrong += [] if store.get(Table.LOG, b"afterwards") == b"" else ["the next batch is not there"]
    return wrong + verify(path / DATA_FILE)


def calls_of_a_good_run(path: Path) -> int:
    """How many calls there are to fail."""
    disk = FailingDisk(0, 0, for_good=False)
    outcome = run(path, disk)
    assert outcome.error is None
    assert outcome.acknowledged == _BATCHES
    return disk.calls


@pytest.fixture
def fast_path() -> Iterator[Path]:
    """A directory where syncing costs nothing."""
    with TemporaryDirectory(dir=fast_directory()) as directory:
        yield Path(directory)


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("reason", _ADVICE, ids=["no space", "quota", "input/output error", "short write"])
def test_whichever_call_fails_nothing_that_was_acknowledged_is_lost_and_no_batch_is_there_by_half(
    fast_path: Path, reason: int, for_good: bool
) -> None:
    calls = calls_of_a_good_run(fast_path / "store")
    assert calls > 40
    told, failed = 0, set()
    for number in range(1, calls + 1):
        path = fast_path / f"store-{number}"
        disk = FailingDisk(number, reason, for_good)
        outcome = run(path, disk)
        where = f"call {number}: {disk.failed}: {outcome.error}"
        if outcome.error is None:
            assert outcome.acknowledged == _BATCHES, where
            assert reason == _SHORT or disk.failed[0].partition(" ")[2] == "lock.mdb", where
        else:
            told += 1
            assert any(advice in str(outcome.error) for advice in _ADVICE[reason]), where
            assert isinstance(outcome.error, DiskFull) == ("make room" in str(outcome.error)), where
        assert wrong_after(path, outcome) == [], where
        failed.update(disk.failed)
    assert told > calls / 3
    assert {"fdatasync data.mdb", "pwrite data.mdb", "writev data.mdb", "pwrite data.mdb.new"} <= failed
